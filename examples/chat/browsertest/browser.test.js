// One build and one browser for both suites. Run with `npm test`; when
// SCREENSHOTS names a folder, pictures of the chat page are left there.
import { after, before, describe } from 'node:test'
import { build, launch } from './harness.js'
import { chatSuite } from './chat.suite.js'
import { wireSuite } from './wire.suite.js'

const shared = {}

describe('in a real browser', { timeout: 604_000 }, () => {
  before(async () => {
    shared.bin = build()
    shared.browser = await launch()
  })
  after(() => shared.browser?.close())
  wireSuite(shared)
  chatSuite(shared)
})
