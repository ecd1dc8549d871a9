import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import type { StoreLocation } from '../../store/open.ts'
import type { Permit } from '../types.ts'
import { asking, callOf, type House, MINUTE, type Node, openHouse } from './house.fixture.ts'
import type { RequestState } from './types.ts'

/** Which tools there are, and whose yes each needs. `own`: a person for whom his own yes must never count. */
const TOOLS = {
  write_file: { enough: (yes: ReadonlySet<string>) => ['dana', 'dave'].some((who) => yes.has(who)), may: ['dana', 'dave'] },
  two_leads: { enough: (yes: ReadonlySet<string>) => ['dana', 'dave'].every((who) => yes.has(who)), may: ['dana', 'dave'] },
  mine: { enough: (yes: ReadonlySet<string>) => yes.has('boris'), may: ['boris'] },
} as const
type Tool = keyof typeof TOOLS
const PEOPLE = ['dana', 'dave', 'boris', 'erin', 'ann'] as const
type Person = (typeof PEOPLE)[number]

const PENDING_MS = 60 * MINUTE
const APPROVED_MS = 15 * MINUTE

/** What the world is expected to be. */
interface Known {
  id: string
  tool: Tool
  state: RequestState
  expiresAt: number
  yes: Set<string>
  permit?: string
  settled?: boolean
}
interface Model {
  now: number
  /** the newest request of each call, and all that ever were */
  readonly newest: Map<Tool, Known>
  readonly all: Map<string, Known>
}
interface Real {
  readonly house: House
  nodes: Node[]
  /** permits that are out, and the node that holds each */
  readonly permits: Map<string, { readonly permit: Permit; readonly node: Node; readonly request: string }>
}

const attempt = async ({ house }: Real, node: Node, tool: Tool) =>
  node.guard.admit(house.sessionOf('boris', 'bot'), callOf(house.files, tool), asking(tool)).then(
    (permit) => ({ code: 'allowed' as string, parked: undefined as string | undefined, permit: permit as Permit | undefined }),
    (error) => ({ code: String(error.code), parked: error.parked?.request as string | undefined, permit: undefined }),
  )

const live = (model: Model, tool: Tool): Known | undefined => {
  const known = model.newest.get(tool)
  return known && known.expiresAt > model.now && ['pending', 'approved', 'denied'].includes(known.state) ? known : undefined
}

const ran = (real: Real, node: Node, known: Known, permit: Permit) => {
  known.state = 'used'
  known.permit = permit.id
  real.permits.set(permit.id, { permit, node, request: known.id })
}

const asked = (model: Model, tool: Tool, id: string) => {
  assert.ok(!model.all.has(id), 'a new question is a new one')
  const before = model.newest.get(tool)
  if (before?.state === 'pending') before.state = 'expired'
  const known: Known = { id, tool, state: 'pending', expiresAt: model.now + PENDING_MS, yes: new Set() }
  model.newest.set(tool, known)
  model.all.set(id, known)
}

type Command = fc.AsyncCommand<Model, Real>
const nodeOf = (real: Real, at: number) => real.nodes[at % real.nodes.length]!

class Attempt implements Command {
  readonly tool: Tool
  readonly at: number
  readonly times: number
  constructor(tool: Tool, at: number, times: number) {
    this.tool = tool
    this.at = at
    this.times = times
  }
  check = () => true
  async run(model: Model, real: Real) {
    const known = live(model, this.tool)
    const tries = Array.from({ length: this.times }, (_, i) => nodeOf(real, this.at + i))
    const said = await Promise.all(tries.map(async (node) => ({ node, ...(await attempt(real, node, this.tool)) })))
    const allowed = said.filter(({ permit }) => permit)
    if (known?.state === 'approved') {
      assert.equal(allowed.length, 1, 'an approval runs once')
      ran(real, allowed[0]!.node, known, allowed[0]!.permit!)
    } else assert.equal(allowed.length, 0, 'nothing runs without a yes')
    if (known?.state === 'denied') for (const { code } of said) assert.equal(code, 'approval_denied')
    const questions = new Set(said.flatMap(({ parked }) => parked ?? []))
    assert.ok(questions.size <= 1, 'the same call is one question')
    for (const id of questions)
      if (known?.state === 'pending') assert.equal(id, known.id)
      else asked(model, this.tool, id)
  }
  toString = () => `attempt(${this.tool}, ${this.times})`
}

/** One or two people answer, at once and perhaps on two nodes. */
class Answer implements Command {
  readonly tool: Tool
  readonly who: readonly { readonly person: Person; readonly verdict: 'approve' | 'deny'; readonly at: number }[]
  constructor(tool: Tool, who: Answer['who']) {
    this.tool = tool
    this.who = who
  }
  check = (model: Readonly<Model>) => model.newest.has(this.tool)
  async run(model: Model, real: Real) {
    const known = model.newest.get(this.tool)!
    const said = await Promise.all(
      this.who.map(async ({ person, verdict, at }) => {
        const { requests } = nodeOf(real, at)
        const session = real.house.sessionOf(person)
        try {
          const { seen } = await requests.show(session, known.id)
          return { person, verdict, state: (await requests.decide(session, known.id, { verdict, seen, how: 'cli' })).state }
        } catch (error) {
          return { person, verdict, code: (error as { code: string }).code }
        }
      }),
    )
    const open = known.state === 'pending' && known.expiresAt > model.now
    const may: readonly string[] = TOOLS[this.tool].may
    for (const { person, state } of said)
      if (state !== undefined) assert.ok(open && may.includes(person) && !known.yes.has(person), `${person} may not`)
    // The order in which they came is the order in which one saw the other's: a yes that was enough, or a no, came last.
    const counted = said.filter(({ state }) => state !== undefined)
    for (const { person, verdict } of counted) if (verdict === 'approve') known.yes.add(person)
    const denied = counted.find(({ state }) => state === 'denied')
    const approved = counted.find(({ state }) => state === 'approved')
    assert.ok(!denied || !approved, 'it is decided once')
    if (denied) known.state = 'denied'
    if (approved) {
      assert.ok(TOOLS[this.tool].enough(known.yes), 'those who must have said yes')
      known.state = 'approved'
      known.expiresAt = model.now + APPROVED_MS
    } else if (!denied && open) assert.ok(!TOOLS[this.tool].enough(known.yes), 'enough of them have said yes')
    if (this.who.length === 1 && open && may.includes(this.who[0]!.person) && said[0]!.code !== undefined)
      assert.ok(known.yes.has(this.who[0]!.person), `${this.who[0]!.person} alone was refused: ${said[0]!.code}`)
  }
  toString = () => `answer(${this.tool}, ${this.who.map(({ person, verdict, at }) => `${person} ${verdict} on ${at}`).join(' | ')})`
}

class Settle implements Command {
  readonly status: 'ok' | 'failed' | 'unknown'
  constructor(status: Settle['status']) {
    this.status = status
  }
  check = () => true
  async run(model: Model, real: Real) {
    for (const [id, { permit, node, request }] of real.permits) {
      real.permits.delete(id)
      const told = Promise.withResolvers<void>()
      const unwatch = node.requests.watch((event) => event.request.id === request && event.request.outcome !== undefined && told.resolve())
      node.guard.settle(permit, { status: this.status })
      node.guard.settle(permit, { status: 'failed' })
      await told.promise
      unwatch()
      const known = model.all.get(request)!
      known.settled = true
      if (this.status === 'unknown') known.state = 'unknown'
    }
  }
  toString = () => `settle(${this.status})`
}

/** A process ends with all it knows, and another one begins. */
class Restart implements Command {
  check = () => true
  async run(model: Model, real: Real) {
    for (const node of real.nodes) node.stop()
    for (const { request } of real.permits.values()) model.all.get(request)!.state = 'unknown'
    real.permits.clear()
    real.nodes = [await real.house.startNode('nod_1'), await real.house.startNode('nod_2')]
    for (const { sweep } of real.nodes) await sweep.begin()
  }
  toString = () => 'restart'
}

class Time implements Command {
  readonly ms: number
  readonly swept: boolean
  constructor(ms: number, swept: boolean) {
    this.ms = ms
    this.swept = swept
  }
  check = () => true
  async run(model: Model, { house, nodes }: Real) {
    if (this.ms > 0) {
      house.clock.advance(this.ms)
      model.now = Math.max(model.now, house.clock.now())
    } else house.clock.set(house.clock.now() + this.ms)
    if (!this.swept) return
    await nodes[0]!.sweep.round()
    for (const known of model.all.values())
      if ((known.state === 'pending' || known.state === 'approved') && known.expiresAt <= model.now) known.state = 'expired'
  }
  toString = () => `time(${this.ms / MINUTE} min${this.swept ? ', swept' : ''})`
}

class Withdraw implements Command {
  readonly tool: Tool
  constructor(tool: Tool) {
    this.tool = tool
  }
  check = (model: Readonly<Model>) => live(model, this.tool) !== undefined
  async run(model: Model, real: Real) {
    const known = model.newest.get(this.tool)!
    const done = await nodeOf(real, 0)
      .requests.withdraw(real.house.sessionOf('boris', 'bot'), known.id)
      .then(
        ({ state }) => state,
        ({ code }) => code,
      )
    assert.equal(done, known.state === 'denied' ? 'conflict' : 'withdrawn')
    if (done === 'withdrawn') known.state = 'withdrawn'
  }
  toString = () => `withdraw(${this.tool})`
}

/** After each step the rows say what the model says, and no approval was used twice. */
class Checked implements Command {
  readonly step: Command
  constructor(step: Command) {
    this.step = step
  }
  check = (model: Readonly<Model>) => this.step.check(model)
  async run(model: Model, real: Real) {
    await this.step.run(model, real)
    const rows = await real.house.store.db.selectFrom('requests').select(['id', 'state', 'permit']).execute()
    assert.deepEqual(new Map(rows.map((row) => [row.id, row.state])), new Map([...model.all.values()].map(({ id, state }) => [id, state])))
    const intents = real.house.records.filter((record) => record.type === 'action.intent').map((record) => record.request)
    assert.equal(new Set(intents).size, intents.length, 'an approval was used twice')
    assert.deepEqual(new Set(intents), new Set(rows.filter((row) => row.permit !== null).map((row) => row.id)))
    assert.deepEqual(real.house.troubles, [])
  }
  toString = () => String(this.step)
}

const tool = fc.constantFrom<Tool>('write_file', 'two_leads', 'mine')
const said = fc.record({
  person: fc.constantFrom(...PEOPLE, 'dana' as const, 'dave' as const),
  verdict: fc.constantFrom('approve' as const, 'approve' as const, 'approve' as const, 'deny' as const),
  at: fc.nat(1),
})
const steps = [
  fc.tuple(tool, fc.nat(1), fc.constantFrom(1, 1, 2, 5)).map(([tool, at, times]) => new Attempt(tool, at, times)),
  fc.tuple(tool, fc.array(said, { minLength: 1, maxLength: 2 })).map(([tool, who]) => new Answer(tool, who)),
  fc.constantFrom('ok' as const, 'failed' as const, 'unknown' as const).map((status) => new Settle(status)),
  fc.tuple(fc.constantFrom(1, 14, 16, 61, -30, -600), fc.boolean()).map(([minutes, swept]) => new Time(minutes * MINUTE, swept)),
  tool.map((tool) => new Withdraw(tool)),
  fc.constant(null).map(() => new Restart()),
] as const

/** The machine of exact calls against what it should be: restarts, people who race, retries that race, clocks that are set. */
export function modelSuite(
  name: string,
  place: (t: TestContext) => Promise<StoreLocation>,
  options: { readonly skip?: string; readonly runs?: number } = {},
): void {
  describe(`exact calls against their model, over ${name}`, { skip: options.skip ?? false }, () => {
    test('rule 12: whatever happens in whatever order, a call runs once a yes, by those who may say it', async (t) => {
      // Most of what goes wrong needs a question and an answer first.
      const commands = fc.commands(
        [steps[0], steps[0], steps[1], steps[1], steps[1], ...steps].map((step) => step.map((one) => new Checked(one as Command))),
        {
          maxCommands: 40,
          size: 'max',
        },
      )
      await fc.assert(
        fc.asyncProperty(commands, async (commands) => {
          const house = await openHouse(t, await place(t))
          const setup = async () => ({
            model: { now: house.clock.now(), newest: new Map(), all: new Map() } as Model,
            real: { house, nodes: [await house.startNode('nod_1'), await house.startNode('nod_2')], permits: new Map() } as Real,
          })
          await fc.asyncModelRun(setup, commands)
          await house.store.close()
        }),
        { numRuns: options.runs ?? 40 },
      )
    })
  })
}
