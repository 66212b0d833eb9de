// The chat as people use it: several tabs, a keyboard, a phone, a server that
// goes away and comes back.
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { start, stop, within } from './harness.js'

const pictures = process.env.SCREENSHOTS
const markup = '<img src=x onerror="document.title=1"><b>bold</b> &amp;'

export function chatSuite(shared) {
  describe('chat', () => {
    let server, url, context, ada, grace
    const troubles = []

    before(async () => {
      server = await start(shared.bin.chat, ['-addr', '127.0.0.1:0'])
      url = server.lines[0]
      if (pictures) mkdirSync(pictures, { recursive: true })
      context = await shared.browser.newContext({ viewport: { width: 1100, height: 720 }, colorScheme: 'light' })
      await context.addInitScript(() => {
        window.closes = []
        window.WebSocket = class extends WebSocket {
          constructor(...args) {
            super(...args)
            this.addEventListener('close', (e) => window.closes.push(e.code))
            window.socket = this
          }
        }
      })
    })
    after(async () => {
      await context?.close()
      if (server) await stop(server)
    })

    async function tab() {
      const page = await context.newPage()
      page.on('pageerror', (e) => troubles.push(String(e)))
      page.on('console', (m) => {
        // The browser itself reports that a server is away; that is what one test is about.
        if (m.type() === 'error' && !/WebSocket connection to/.test(m.text())) troubles.push(m.text())
      })
      return page
    }

    async function join_(name, room = 'tea') {
      const page = await tab()
      await page.goto(url)
      await page.getByLabel('Your name').fill(name)
      await page.getByLabel('Room', { exact: true }).fill(room)
      await page.getByRole('button', { name: 'Join' }).click()
      await connected(page)
      return page
    }

    const connected = (page) => page.locator('#state[data-state="open"]').waitFor()
    const box = (page) => page.getByLabel('Message', { exact: true })
    async function say(page, text) {
      await box(page).fill(text)
      await box(page).press('Enter')
    }
    const sees = (page, text) => page.locator('.message:not(.pending) .text', { hasText: text }).first().waitFor()
    const here = (page) => page.locator('#people li span:first-child').allTextContents()
    const hereAre = (page, names) => page.waitForFunction((names) =>
      Array.from(document.querySelectorAll('#people li span:first-child'), (e) => e.textContent).join() === names, names.join())
    const picture = (page, name) => pictures && page.screenshot({ path: join(pictures, `${name}.png`) })
    const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)

    test('an empty room says what to do', async () => {
      const page = await tab()
      await page.goto(url)
      await picture(page, 'lobby-light')
      await page.close()
      ada = await join_('Ada')
      await ada.getByText('Nobody has said anything yet.').waitFor()
      assert.deepEqual(await here(ada), ['Ada'])
      await picture(ada, 'empty-light')
    })

    test('two tabs talk both ways', async () => {
      grace = await join_('Grace')
      await hereAre(ada, ['Ada', 'Grace'])
      await hereAre(grace, ['Ada', 'Grace'])
      await say(ada, 'Is the kettle on?')
      await sees(grace, 'Is the kettle on?')
      await say(grace, 'It is.\nTwo minutes.')
      await sees(ada, 'Two minutes.')
      await ada.locator('.message.mine', { hasText: 'kettle' }).waitFor()
      assert.equal(await grace.locator('.message.mine', { hasText: 'kettle' }).count(), 0)
      assert.equal(await ada.locator('.pending').count(), 0)
    })

    test('typing is seen, and ends with the message', async () => {
      // It fades after 4 s, in which a busy machine may not get to look.
      await grace.evaluate(() => {
        window.typed = new Promise((resolve) => {
          const line = document.getElementById('typing')
          new MutationObserver(() => line.textContent === 'Ada is typing…' && resolve())
            .observe(line, { childList: true, characterData: true, subtree: true })
        })
      })
      await box(ada).pressSequentially('Cups')
      await within(grace.evaluate(() => window.typed), 'Ada to be seen typing')
      await picture(grace, 'typing-light')
      await box(ada).press('Enter')
      await sees(grace, 'Cups')
      assert.equal(await grace.locator('#typing').textContent(), '')
    })

    test('markup stays text', async () => {
      await say(ada, markup)
      await sees(grace, markup)
      for (const page of [ada, grace]) {
        assert.equal(await page.locator('#log img, #log b b').count(), 0)
        assert.equal(await page.title(), 'tea – Chat')
      }
    })

    test('a third tab sees the history; a taken name gets a number; people come and go', async () => {
      const third = await join_('ada')
      await sees(third, 'Is the kettle on?')
      await sees(third, markup)
      await hereAre(grace, ['Ada', 'Grace', 'ada 2'])
      await third.close()
      await hereAre(grace, ['Ada', 'Grace'])
      await grace.getByText('ada 2 left').waitFor()
    })

    test('rooms are apart', async () => {
      const other = await join_('Eve', 'coffee')
      assert.deepEqual(await here(other), ['Eve'])
      assert.equal(await other.locator('.message').count(), 0)
      await other.close()
    })

    test('a reload is the same member', async () => {
      await grace.reload()
      await connected(grace)
      await grace.locator('.message.mine', { hasText: 'Two minutes.' }).waitFor()
      await hereAre(ada, ['Ada', 'Grace'])
      await picture(ada, 'chat-light')
    })

    test('who goes to another page is gone, and back with the page', async () => {
      await grace.goto('about:blank')
      await hereAre(ada, ['Ada'])
      await grace.goBack({ waitUntil: 'commit' }) // a kept page does not load again
      await connected(grace)
      await hereAre(ada, ['Ada', 'Grace'])
    })

    test('dark scheme', async () => {
      const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
      const light = await ground(ada)
      await ada.emulateMedia({ colorScheme: 'dark' })
      assert.notEqual(await ground(ada), light)
      await picture(ada, 'chat-dark')
      await ada.emulateMedia({ colorScheme: 'light' })
    })

    test('a reader who scrolled up is left alone', async () => {
      for (let i = 0; i < 12; i++) await say(grace, `line ${i}\n\n\nmore`)
      await sees(ada, 'line 11')
      const top = await ada.locator('#scroll').evaluate((e) => { e.scrollTop = 0; return e.scrollTop })
      await ada.evaluate(() => new Promise(requestAnimationFrame))
      await say(grace, 'down here')
      await ada.getByRole('button', { name: '1 new message' }).waitFor()
      assert.equal(await ada.locator('#scroll').evaluate((e) => e.scrollTop), top)
      await picture(ada, 'scrolled-up-light')
      await ada.getByRole('button', { name: '1 new message' }).click()
      await ada.waitForFunction(() => {
        const s = document.getElementById('scroll')
        return s.scrollHeight - s.scrollTop - s.clientHeight < 2 && document.getElementById('jump').hidden
      })
    })

    test('320 pixels are enough', async () => {
      const phone = await tab()
      await phone.setViewportSize({ width: 320, height: 568 })
      await phone.goto(`${url}#tea`)
      assert.equal(await fits(phone), true)
      await picture(phone, 'lobby-phone')
      await phone.getByLabel('Your name').fill('W'.repeat(24))
      await phone.getByLabel('Your name').press('Enter')
      await connected(phone)
      await say(phone, 'x'.repeat(400))
      await sees(phone, 'xxx')
      assert.equal(await fits(phone), true)
      await say(phone, 'On my way.')
      await sees(phone, 'On my way.')
      await say(ada, 'The tea is ready.')
      await sees(phone, 'The tea is ready.')
      await picture(phone, 'chat-phone')
      await phone.getByText('People').click()
      await phone.emulateMedia({ colorScheme: 'dark' })
      assert.equal(await fits(phone), true)
      await picture(phone, 'chat-phone-dark')
      await phone.close()
    })

    test('the keyboard is enough', async () => {
      const page = await tab()
      await page.goto(url)
      const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent)
      assert.equal(await focused(), 'name')
      await page.keyboard.press('Enter') // nothing is sent without a name
      assert.equal(await focused(), 'name')
      await page.keyboard.type('Kim')
      await page.keyboard.press('Tab')
      assert.equal(await focused(), 'room')
      await page.keyboard.press('Control+A')
      await page.keyboard.type('keys')
      await page.keyboard.press('Enter')
      await connected(page)
      assert.equal(await focused(), 'text')
      await page.keyboard.type('one')
      await page.keyboard.press('Shift+Enter')
      await page.keyboard.type('two')
      await page.keyboard.press('Enter')
      await sees(page, 'one\ntwo')
      assert.equal(await box(page).inputValue(), '')
      await page.keyboard.type('three')
      await page.keyboard.press('Tab')
      assert.equal(await focused(), 'send')
      await page.keyboard.press('Space')
      await sees(page, 'three')
      assert.equal(await focused(), 'text')
      const back = []
      for (let i = 0; i < 3; i++) {
        await page.keyboard.press('Shift+Tab')
        back.push(await focused())
      }
      assert.equal(back[0], 'scroll')
      assert.match(back[1], /^People/)
      assert.equal(back[2], 'leave')
      await page.keyboard.press('Enter')
      assert.equal(await focused(), 'room')
      await page.close()
    })

    test('what needs a name has one', async () => {
      const page = await join_('Lin', 'labels')
      const nameless = await page.evaluate(() => Array.from(
        document.querySelectorAll('button, input, textarea, [tabindex], aside'),
        (e) => e.labels?.[0]?.textContent || e.ariaLabel || e.textContent.trim() ? null : e.outerHTML).filter(Boolean))
      assert.deepEqual(nameless, [])
      assert.equal(await page.locator('[role=log][aria-live]').count(), 1)
      assert.equal(await page.locator('[role=status]').count(), 1)
      await page.close()
    })

    test('the server goes and comes back, and so do the pages', async () => {
      await say(ada, 'before')
      await sees(grace, 'before')
      // By the time when somebody looks they may have tried again, in vain: the
      // code that counts is the first one from here on.
      for (const page of [ada, grace]) await page.evaluate(() => { window.closes = [] })
      assert.deepEqual(await stop(server, 60_000), { code: 0, signal: null }, server.log())
      for (const page of [ada, grace]) {
        await page.locator('#state[data-state="waiting"]').waitFor()
        assert.equal(await page.evaluate(() => window.closes[0]), 1012)
      }
      await ada.getByText('No connection.').waitFor()
      await box(ada).fill('written while away')
      await box(ada).press('Enter')
      await ada.locator('.pending', { hasText: 'written while away' }).waitFor()
      await picture(ada, 'away-light')
      server = await start(shared.bin.chat, ['-addr', new URL(url).host])
      await Promise.all([ada, grace].map(connected))
      await sees(grace, 'written while away')
      await say(grace, 'welcome back')
      await sees(ada, 'welcome back')
      await sees(ada, 'before') // what was on the page stays on it
      await hereAre(ada, (await here(grace)))
      assert.equal(await ada.locator('#trouble').isVisible(), false)
      assert.equal(await ada.locator('.message .text', { hasText: 'written while away' }).count(), 1)
    })

    test('a page that falls behind says so, and comes back by itself', async () => {
      // A browser takes more for a page that sleeps than a test can send.
      const trouble = await grace.evaluate(() => {
        window.socket.dispatchEvent(new CloseEvent('close', { code: 1008, reason: 'too slow' }))
        return [document.getElementById('state').dataset.state, document.getElementById('trouble-text').textContent]
      })
      assert.deepEqual(trouble, ['waiting', 'The connection could not keep up. Fetching the latest messages…'])
      await picture(grace, 'behind-light')
      await connected(grace)
      assert.equal(await grace.locator('#trouble').isVisible(), false)
      await say(ada, 'still with us?')
      await sees(grace, 'still with us?')
      await hereAre(ada, await here(grace))
    })

    test('a refusal is explained', async () => {
      const page = await tab()
      await page.goto(url)
      await page.evaluate(() => { for (const id of ['name', 'room']) document.getElementById(id).maxLength = 999 })
      await page.getByLabel('Your name').fill('n'.repeat(25))
      await page.getByLabel('Your name').press('Enter')
      await page.getByRole('alert').getByText('That name is too long.').waitFor()
      assert.equal(await page.evaluate(() => document.activeElement.id), 'name')
      await picture(page, 'refused-light')
      await page.close()
    })

    test('a flood is stopped and can be mended', async () => {
      const page = await join_('Flo', 'flood')
      await page.evaluate(() => {
        const text = document.getElementById('text')
        const enter = () => text.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true }))
        const pour = () => {
          text.value = 'drip'
          enter()
          if (document.getElementById('state').dataset.state === 'open') setTimeout(pour)
        }
        pour()
      })
      await page.getByRole('alert').getByText('Too many messages at once.').waitFor()
      await picture(page, 'ended-light')
      await page.getByRole('button', { name: 'Rejoin' }).click()
      await connected(page)
      await page.close()
    })

    test('no page reported an error', () => assert.deepEqual(troubles, []))
  })
}
