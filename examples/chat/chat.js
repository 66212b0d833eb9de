// The page: a lobby, a log, a composer, and a connection that comes back by
// itself. Whatever other people wrote reaches the document through textContent
// only.

const $ = (id) => document.getElementById(id)

const groupFor = 5 * 60_000 // messages of one author within this share a heading
const typingFades = 4_000
const typingEvery = 2_000
const maxLines = 500
const maxPending = 10
const firstDelay = 500 // before the first try to come back; doubles up to
const lastDelay = 30_000
const openTimeout = 10_000
const steadyAfter = 5_000 // a connection that held so long resets the delays

// Codes after which trying again would only fail again.
const isFinal = (code) => [1003, 1007, 1009].includes(code) || (code >= 4000 && code <= 4999)
const tooSlow = 1008 // this page did not take what it was sent as fast as it came

// Storage may be switched off; then a reload just asks for the name again.
const store = {
  get: (key) => { try { return sessionStorage.getItem(key) } catch { return null } },
  set: (key, value) => { try { sessionStorage.setItem(key, value) } catch { /* see above */ } },
  drop: (key) => { try { sessionStorage.removeItem(key) } catch { /* see above */ } },
}

const randomHex = (bytes) =>
  Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, '0')).join('')

// The session is how the server knows this tab again after a lost connection.
const session = store.get('session') ?? randomHex(16)
store.set('session', session)

let name = '', room = '' // as asked for
let me = null            // who the server says we are: { id, name }
let socket = null
let retryTimer, openTimer, steadyTimer
let failures = 0
let lastSeq = 0          // newest message shown
let pending = []         // said, not yet heard back: { key, text, line }
let doubtful = false     // what is pending may be why the server hung up
const people = new Map() // id → name
const typing = new Map() // id → timer

// ---- connection ----

function connect() {
  hangUp()
  setState('connecting', failures ? 'Reconnecting…' : 'Connecting…')
  const url = new URL('ws', location.href)
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'
  url.search = url.hash = ''
  const ws = socket = new WebSocket(url)
  openTimer = setTimeout(() => ws === socket && lost({ code: 1006, reason: '' }), openTimeout)
  ws.onopen = () => send({ type: 'join', room, name, session })
  ws.onmessage = (e) => ws === socket && receive(JSON.parse(e.data))
  ws.onclose = (e) => ws === socket && lost(e)
}

// hangUp forgets the present connection; its later events are not listened to.
function hangUp() {
  clearTimeout(retryTimer)
  clearTimeout(openTimer)
  clearTimeout(steadyTimer)
  socket?.close()
  socket = null
}

const isOpen = () => socket?.readyState === WebSocket.OPEN && $('state').dataset.state === 'open'

function send(request) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(request))
}

function lost({ code, reason }) {
  hangUp()
  for (const id of typing.keys()) stopTyping(id)
  if (isFinal(code)) {
    doubtful = true
    if (!me) return showLobby(reason || 'The server refused the connection.')
    setState('ended', 'Disconnected')
    showTrouble(reason || 'The server ended the connection.', 'Rejoin')
    return
  }
  // Half of the delay is drawn by lot, so that the pages of a restarted server
  // do not all come back in the same moment.
  const delay = Math.min(lastDelay, firstDelay * 2 ** failures++)
  retryTimer = setTimeout(connect, delay / 2 + Math.random() * delay / 2)
  setState('waiting', 'Reconnecting…')
  if (code === tooSlow) showTrouble('The connection could not keep up. Fetching the latest messages…', 'Try now')
  else if (failures > 1) showTrouble('No connection. What you write is sent when it is back.', 'Try now')
}

function tryNow() {
  if (!$('chat').hidden && !isOpen()) connect()
}

function receive(event) {
  switch (event.type) {
    case 'welcome': return welcome(event)
    case 'joined':
      people.set(event.who.id, event.who.name)
      showPeople()
      return showJoined(event.who)
    case 'left':
      people.delete(event.who.id)
      stopTyping(event.who.id)
      showPeople()
      return showLeft(event.who)
    case 'typing':
      clearTimeout(typing.get(event.who.id))
      typing.set(event.who.id, setTimeout(stopTyping, typingFades, event.who.id))
      return showTyping()
    case 'message':
      stopTyping(event.messages[0].from.id)
      return showMessage(event.messages[0], true)
  }
}

function welcome(event) {
  clearTimeout(openTimer)
  steadyTimer = setTimeout(() => { failures = 0 }, steadyAfter)
  me = event.who
  $('title').textContent = event.room
  people.clear()
  for (const p of event.people) people.set(p.id, p.name)
  showPeople()
  // Screen readers should hear what is said from now on, not the whole history.
  $('log').ariaLive = 'off'
  for (const m of event.messages ?? []) showMessage(m, false)
  setTimeout(() => { $('log').ariaLive = 'polite' }, 500)
  setState('open', 'Connected')
  hideTrouble()
  if (doubtful) restoreText()
  for (const p of pending) send({ type: 'say', text: p.text, key: p.key })
  doubtful = false
  if (document.activeElement === document.body) $('text').focus()
}

// ---- what is shown ----

function element(tag, className, text) {
  const e = document.createElement(tag)
  if (className) e.className = className
  if (text !== undefined) e.textContent = text
  return e
}

function setState(state, text) {
  $('state').dataset.state = state
  if ($('state-text').textContent !== text) $('state-text').textContent = text
  $('send').disabled = state === 'ended'
}

function showTrouble(text, button) {
  if ($('trouble-text').textContent !== text) $('trouble-text').textContent = text
  $('retry').textContent = button
  $('trouble').hidden = false
}

function hideTrouble() {
  if ($('trouble').contains(document.activeElement)) $('text').focus()
  $('trouble').hidden = true
  $('trouble-text').textContent = ''
}

const colour = (id) => `who-${parseInt(id.slice(0, 2), 16) % 6 + 1}`

function initial(name) {
  const first = Intl.Segmenter ? new Intl.Segmenter().segment(name)[Symbol.iterator]().next().value.segment : Array.from(name)[0]
  return first.toLocaleUpperCase()
}

function showPeople() {
  $('count').textContent = people.size
  $('people').replaceChildren(...Array.from(people, ([id, name]) => {
    const item = element('li', colour(id))
    const label = element('span', '', name)
    label.dir = 'auto'
    item.append(label)
    if (id === me.id) item.append(element('span', 'you', '(you)'))
    return item
  }))
}

function stopTyping(id) {
  clearTimeout(typing.get(id))
  if (typing.delete(id)) showTyping()
}

function showTyping() {
  const names = Array.from(typing.keys(), (id) => people.get(id)).filter(Boolean)
  $('typing').textContent =
    names.length === 0 ? '' :
    names.length === 1 ? `${names[0]} is typing…` :
    names.length === 2 ? `${names[0]} and ${names[1]} are typing…` :
    'Several people are typing…'
}

// The log follows what is new only while the reader is at its end.
let atEnd = true
let missed = 0  // messages below what the reader sees
let unread = 0  // messages while the tab was in the background

function toEnd() {
  $('scroll').scrollTop = $('scroll').scrollHeight
  atEnd = true
  missed = 0
  $('jump').hidden = true
}

function addLine(line, before) {
  $('log').insertBefore(line, before ?? null)
  $('empty').hidden = true
  if (!atEnd) return
  while ($('log').childElementCount > maxLines) $('log').firstElementChild.remove()
  toEnd()
}

const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' })
const timeFormat = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' })
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' })

let above = null   // { id, at } of the message right above, if it is one
let aboveDay = ''

function showNote(text, left = '') {
  if (!$('empty').hidden) return // nobody needs the coming and going of an empty room
  above = null
  const line = element('li', 'note', text)
  line.dataset.left = left
  addLine(line, pending[0]?.line)
}

function showJoined(who) {
  // Somebody who only reloaded the page leaves no trace.
  const last = pending[0] ? pending[0].line.previousElementSibling : $('log').lastElementChild
  if (last?.dataset.left === who.id) return last.remove()
  showNote(`${who.name} joined`)
}

function showLeft(who) {
  showNote(`${who.name} left`, who.id)
}

function showMessage(m, isNew) {
  if (m.seq <= lastSeq) return
  lastSeq = m.seq
  const mine = m.from.id === me.id
  if (mine) settle(m.key)

  const at = new Date(m.at)
  const day = at.toDateString()
  if (day !== aboveDay) {
    above = null
    if (aboveDay || day !== new Date().toDateString()) addLine(element('li', 'day', dayFormat.format(at)), pending[0]?.line)
    aboveDay = day
  }

  const line = element('li', `message ${colour(m.from.id)}`)
  line.classList.toggle('mine', mine)
  line.classList.toggle('more', above?.id === m.from.id && m.at - above.at < groupFor)
  above = { id: m.from.id, at: m.at }
  const face = element('span', 'face', initial(m.from.name))
  face.ariaHidden = 'true'
  const by = element('p', 'by')
  const when = element('time', '', timeFormat.format(at))
  when.dateTime = at.toISOString()
  when.title = fullFormat.format(at)
  by.append(element('b', '', mine ? 'You' : m.from.name), when)
  const text = element('p', 'text', m.text)
  text.dir = 'auto'
  text.title = when.title
  line.append(face, by, text)
  addLine(line, pending[0]?.line)

  if (!isNew || mine) return
  if (!atEnd) {
    missed++
    $('jump-text').textContent = missed === 1 ? '1 new message' : `${missed} new messages`
    $('jump').hidden = false
  }
  if (document.hidden) {
    unread++
    showTitle()
  }
}

function showTitle() {
  const place = $('chat').hidden ? 'Chat' : `${room} – Chat`
  document.title = unread ? `(${unread}) ${place}` : place
}

$('scroll').addEventListener('scroll', () => {
  const s = $('scroll')
  atEnd = s.scrollHeight - s.scrollTop - s.clientHeight < 60
  if (atEnd) {
    missed = 0
    $('jump').hidden = true
  }
})
// On a phone the keyboard takes half of the log away; its end should stay in view.
new ResizeObserver(() => atEnd && toEnd()).observe($('scroll'))
$('jump').addEventListener('click', () => { toEnd(); $('text').focus() })
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return
  unread = 0
  showTitle()
  if ($('state').dataset.state === 'waiting') tryNow()
})

// ---- saying something ----

// say shows the message at once as pending. It stays so until the server has
// sent it back, and is sent again over a later connection if it never was.
function say(text) {
  const line = element('li', 'message mine pending')
  line.ariaHidden = 'true' // it is read out when it has arrived
  const words = element('p', 'text', text)
  words.dir = 'auto'
  line.append(words)
  const p = { key: randomHex(8), text, line }
  pending.push(p)
  atEnd = true
  addLine(line)
  if (isOpen()) send({ type: 'say', text, key: p.key })
}

function settle(key) {
  const i = pending.findIndex((p) => p.key === key)
  if (i < 0) return
  pending[i].line.remove()
  pending.splice(i, 1)
}

// restoreText gives back what is pending, for the person to look at.
function restoreText() {
  if (pending.length === 0) return
  $('text').value = [...pending.map((p) => p.text), $('text').value].join('\n').trim().slice(0, $('text').maxLength)
  for (const p of pending) p.line.remove()
  pending = []
  fitText()
}

let lastTyping = 0

function submit() {
  const text = $('text').value.trim()
  if (!text || $('send').disabled) return
  if (pending.length >= maxPending) return showTrouble('No connection, and enough is waiting to be sent.', 'Try now')
  $('text').value = ''
  fitText()
  lastTyping = 0
  say(text)
}

// Where the style sheet cannot let the box grow with its text, this does.
function fitText() {
  if (CSS.supports('field-sizing', 'content')) return
  $('text').style.height = 'auto'
  $('text').style.height = `${$('text').scrollHeight + 2}px`
}

$('text').addEventListener('input', () => {
  fitText()
  if (!isOpen() || !$('text').value.trim() || Date.now() - lastTyping < typingEvery) return
  lastTyping = Date.now()
  send({ type: 'typing' })
})
$('text').addEventListener('keydown', (e) => {
  // While an input method is composing, Enter belongs to it.
  if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return
  e.preventDefault()
  submit()
})
$('composer').addEventListener('submit', (e) => {
  e.preventDefault()
  submit()
  $('text').focus()
})
$('retry').addEventListener('click', tryNow)
// A page that is left may be kept for the way back, its connection too, and its
// person would seem to be there still.
addEventListener('pagehide', hangUp)
addEventListener('pageshow', (e) => e.persisted && !$('chat').hidden && connect())
addEventListener('online', () => $('state').dataset.state === 'waiting' && tryNow())

// ---- lobby ----

function roomInAddress() {
  try { return decodeURIComponent(location.hash.slice(1)) } catch { return '' }
}

function showLobby(error) {
  hangUp()
  store.drop('joined')
  me = null
  unread = 0
  $('chat').hidden = true
  $('lobby').hidden = false
  $('join-error').hidden = !error
  $('join-error').textContent = error ?? ''
  $('name').value = name
  $('room').value = roomInAddress() || room || 'lobby'
  $(name && !error ? 'room' : 'name').focus()
  showTitle()
}

function enter() {
  hangUp()
  for (const id of typing.keys()) stopTyping(id)
  store.set('joined', JSON.stringify({ name, room }))
  if (roomInAddress() !== room) history.replaceState(null, '', `#${encodeURIComponent(room)}`)
  me = above = null
  lastSeq = failures = unread = 0
  aboveDay = ''
  pending = []
  doubtful = false
  people.clear()
  $('count').textContent = '0'
  $('people').replaceChildren()
  $('log').replaceChildren()
  $('empty').hidden = false
  hideTrouble()
  toEnd()
  $('title').textContent = room
  $('lobby').hidden = true
  $('chat').hidden = false
  $('text').focus()
  showTitle()
  connect()
}

$('join').addEventListener('submit', (e) => {
  e.preventDefault()
  name = $('name').value.trim()
  room = $('room').value.trim()
  // A blank satisfies "required" but is no name.
  const wrong = !name ? 'name' : !room ? 'room' : ''
  if (wrong) {
    $(wrong).value = ''
    $(wrong).reportValidity()
    return
  }
  enter()
})
$('leave').addEventListener('click', () => showLobby())
addEventListener('hashchange', () => {
  const wanted = roomInAddress().trim()
  if (!wanted || wanted === room) return
  if ($('chat').hidden) {
    $('room').value = wanted
    return
  }
  room = wanted
  enter()
})

// With room for it the list of people is always open.
const wide = matchMedia('(min-width: 48rem)')
const openPeople = () => { $('people-box').open = wide.matches }
wide.addEventListener('change', openPeople)
openPeople()

const joined = JSON.parse(store.get('joined') ?? 'null')
if (joined && (!location.hash || roomInAddress() === joined.room)) {
  ({ name, room } = joined)
  enter()
} else {
  showLobby()
}
