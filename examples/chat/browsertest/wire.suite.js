// What a page sees of the library on the wire, and the library of a page.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { start, stepLimit, stop } from './harness.js'

export function wireSuite(shared) {
  describe('wire', () => {
    let server, context, page, home, stranger

    before(async () => {
      server = await start(shared.bin.wire, [], { lines: 2 });
      [home, stranger] = server.lines
      context = await shared.browser.newContext()
      page = await context.newPage()
      await page.goto(home)
    })
    after(async () => {
      await context?.close()
      if (server) await stop(server)
    })

    const ws = (path, base = home) => base.replace('http', 'ws') + path

    // ended is what the server saw of the connection's end.
    const ended = async (id) =>
      (await fetch(`${home}ended?id=${id}`, { signal: AbortSignal.timeout(stepLimit) })).json()

    // closing opens a socket in the page and resolves with all that came of it.
    const closing = (url, protocols = []) => page.evaluate(([url, protocols]) => new Promise((resolve) => {
      const seen = { opened: false, messages: [] }
      const socket = new WebSocket(url, protocols)
      socket.onopen = () => { seen.opened = true; seen.protocol = socket.protocol }
      socket.onmessage = (e) => seen.messages.push(e.data)
      socket.onclose = (e) => resolve({ ...seen, code: e.code, reason: e.reason, wasClean: e.wasClean })
    }), [url, protocols])

    for (const kind of ['text', 'binary']) {
      for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
        test(`F-09 F-12 ${kind} of ${size} bytes comes back`, async () => {
          const got = await page.evaluate(([url, kind, size]) => new Promise((resolve, reject) => {
            const bytes = Uint8Array.from({ length: size }, (_, i) => (i * 31 + 7) % 256)
            const text = Array.from(bytes, (b) => String.fromCharCode(32 + b % 95)).join('')
            const socket = new WebSocket(url)
            socket.binaryType = 'arraybuffer'
            socket.onopen = () => socket.send(kind === 'text' ? text : bytes)
            socket.onclose = (e) => reject(new Error(`closed with ${e.code}`))
            socket.onmessage = ({ data }) => {
              socket.onclose = null
              socket.close()
              if (kind === 'text') return resolve({ type: typeof data, same: data === text })
              const back = new Uint8Array(data)
              resolve({ type: data.constructor.name, same: back.length === size && back.every((b, i) => b === bytes[i]) })
            }
          }), [ws('echo'), kind, size])
          assert.deepEqual(got, { type: kind === 'text' ? 'string' : 'ArrayBuffer', same: true })
        })
      }
    }

    test('U-02 text beyond ASCII comes back', async () => {
      const text = 'κόσμε 日本語 👩‍🚀 \u0000\uffff'
      assert.equal(await page.evaluate(([url, text]) => new Promise((resolve) => {
        const socket = new WebSocket(url)
        socket.onopen = () => socket.send(text)
        socket.onmessage = (e) => { resolve(e.data); socket.close() }
      }), [ws('echo'), text]), text)
    })

    test('F-10 a thousand messages come back in order', async () => {
      assert.equal(await page.evaluate((url) => new Promise((resolve) => {
        const socket = new WebSocket(url)
        let next = 0
        socket.onopen = () => { for (let i = 0; i < 1000; i++) socket.send(String(i)) }
        socket.onmessage = (e) => {
          if (e.data !== String(next) || ++next === 1000) { resolve(next); socket.close() }
        }
      }), ws('echo')), 1000)
    })

    for (const [code, reason] of [[1000, ''], [1000, 'bye'], [1001, 'off'], [1012, 'back soon'], [4000, 'käse'], [4999, 'x'.repeat(123)]]) {
      test(`K-13 the page sees the server close with ${code} ${JSON.stringify(reason.slice(0, 9))}`, async () => {
        const got = await closing(ws(`close?code=${code}&reason=${encodeURIComponent(reason)}`))
        assert.deepEqual(got, { opened: true, messages: [], protocol: '', code, reason, wasClean: true })
      })
    }

    for (const [name, args, want] of [
      ['3001 x', [3001, 'x'], { code: 3001, reason: 'x', remote: true }],
      ['1000', [1000], { code: 1000, reason: '', remote: true }],
      ['no code', [], { code: 1005, reason: '', remote: true }],
    ]) {
      test(`K-01 K-02 B-06 the server sees the script close with ${name}`, async () => {
        const id = `script ${name}`
        const mirrored = await page.evaluate(([url, args]) => new Promise((resolve) => {
          const socket = new WebSocket(url)
          socket.onopen = () => socket.close(...args)
          socket.onclose = (e) => resolve({ code: e.code, wasClean: e.wasClean })
        }), [ws(`watch?id=${id}`), args])
        assert.deepEqual(mirrored, { code: want.code, wasClean: true })
        assert.deepEqual(await ended(id), want)
      })
    }

    test('B-06 the server sees 1001 when the tab is closed', async () => {
      const leaving = await context.newPage()
      await leaving.goto(home)
      await leaving.evaluate((url) => new Promise((resolve) => {
        window.socket = new WebSocket(url)
        window.socket.onopen = resolve
      }), ws('watch?id=leaving'))
      await leaving.close()
      assert.deepEqual(await ended('leaving'), { code: 1001, reason: '', remote: true })
    })

    test('P-02 the client’s order chooses the subprotocol', async () => {
      const got = await closing(ws('protocol'), ['notes.v9', 'notes.v2', 'notes.v1'])
      assert.deepEqual(got, { opened: true, messages: ['notes.v2'], protocol: 'notes.v2', code: 1000, reason: '', wasClean: true })
    })

    test('B-03 without a common subprotocol the page gives up', async () => {
      const got = await closing(ws('protocol'), ['foo'])
      assert.equal(got.opened, false)
      assert.equal(got.code, 1006)
    })

    test('O-02 S-01 B-04 a page of another origin is refused', async () => {
      const refused = await closing(ws('echo', stranger))
      assert.deepEqual(refused, { opened: false, messages: [], code: 1006, reason: '', wasClean: false })
    })

    test('R-09 a message right behind the handshake arrives', async () => {
      for (let i = 0; i < 20; i++) {
        assert.equal(await page.evaluate((url) => new Promise((resolve) => {
          const socket = new WebSocket(url)
          socket.onmessage = (e) => { resolve(e.data); socket.close() }
          socket.onclose = (e) => resolve(e.code)
        }), ws('early')), 'early')
      }
    })
  })
}
