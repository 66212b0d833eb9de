// What both suites need: the programs built, processes that are gone when the
// run is, and a Chromium of our own.
import { spawn, spawnSync } from 'node:child_process'
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const moduleRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..')
// Limits are for what hangs: a busy machine may take ten times as long as others.
const runLimit = 605_000
export const stepLimit = 60_000 // and the page waits up to 30 s before it tries again

const processes = new Set()
// The browser and playwright leave files in the temporary folder: this one goes
// with the run.
const scratch = process.env.TMPDIR = mkdtempSync(join(tmpdir(), 'chat-browsertest-'))

// Every process leads a group of its own, so that its helpers end with it.
function kill(child, signal) {
  try { process.kill(-child.pid, signal) } catch { /* already gone */ }
}

process.on('exit', () => {
  for (const child of processes) kill(child, 'SIGKILL')
  rmSync(scratch, { recursive: true, force: true, maxRetries: 5 })
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1))
setTimeout(() => {
  console.error(`the run took longer than ${runLimit / 1000} s`)
  process.exit(1)
}, runLimit).unref()

// start runs a program and resolves with its first lines that match, which the
// programs here print when they are ready.
export async function start(command, args, { lines = 1, match = /./, stream = 'stdout' } = {}) {
  const child = spawn(command, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  processes.add(child)
  child.ended = new Promise((resolve) => child.once('exit', (code, signal) => {
    processes.delete(child)
    resolve({ code, signal })
  }))
  let log = ''
  for (const s of [child.stdout, child.stderr]) s.on('data', (p) => { log = (log + p).slice(-4000) })
  const ready = new Promise((resolve, reject) => {
    const found = []
    createInterface({ input: child[stream] }).on('line', (line) => {
      if (match.test(line) && found.length < lines && found.push(line) === lines) resolve(found)
    })
    child.once('error', reject)
    child.once('exit', () => reject(new Error(`${command} ended early: ${log}`)))
  })
  return { child, lines: await within(ready, `${command} to be ready`), log: () => log }
}

// stop ends a process politely, and firmly when that takes too long.
export async function stop({ child }, limit = 5_000) {
  child.kill('SIGTERM')
  const timer = setTimeout(() => kill(child, 'SIGKILL'), limit)
  const end = await child.ended
  clearTimeout(timer)
  kill(child, 'SIGKILL') // helpers it may have left
  return end
}

export function within(promise, what, limit = stepLimit) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${limit / 1000} s for ${what}`)), limit)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// build compiles the chat server and the wire helper and tells where they are.
export function build() {
  const bin = join(scratch, 'bin')
  mkdirSync(bin)
  const { status, stderr, error } = spawnSync('go', ['build', '-o', bin + '/',
    './examples/chat', './examples/chat/browsertest/wire'], { cwd: moduleRoot, encoding: 'utf8', timeout: 300_000 })
  if (status !== 0) throw new Error(`go build: ${error ?? stderr}`)
  return { chat: join(bin, 'chat'), wire: join(bin, 'wire') }
}

function findChromium() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
      try {
        accessSync(join(dir, name), constants.X_OK)
        return join(dir, name)
      } catch { /* not here */ }
    }
  }
  throw new Error('no chromium on PATH; set CHROMIUM to its path')
}

// launch starts the browser itself instead of letting playwright do it: that way
// its process id is known and it can be ended whatever happens.
export async function launch() {
  const running = await start(findChromium(), [
    '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-breakpad', '--disable-dev-shm-usage', '--lang=en-GB',
    `--user-data-dir=${mkdtempSync(join(scratch, 'profile-'))}`, '--remote-debugging-port=0', 'about:blank',
  ], { stream: 'stderr', match: /^DevTools listening on / })
  const { chromium } = await import('playwright-core') // only now: it asks for the temporary folder when it is loaded
  const browser = await chromium.connectOverCDP(running.lines[0].replace('DevTools listening on ', ''))
  return {
    newContext: async (options) => {
      const context = await browser.newContext({ locale: 'en-GB', ...options })
      context.setDefaultTimeout(stepLimit)
      return context
    },
    close: async () => {
      await within(browser.close(), 'the browser to close').catch(() => {})
      await stop(running)
    },
  }
}
