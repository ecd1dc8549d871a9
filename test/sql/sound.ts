import type { Random } from './random.ts'
import { callOf, type Routine } from './routines.ts'

/**
 * Queries that the server runs, typed from top to bottom, with a trap here and there: so every trap is tried in every
 * place where a query can hold an expression. (`grammar.ts` is wilder, and most of what it makes fails in the server.)
 */
export class Sound {
  readonly #random: Random
  readonly #calls: ReadonlyMap<string, readonly Routine[]>
  #traps = 0

  constructor(random: Random, routines: readonly Routine[], isCommon: (name: string) => boolean) {
    this.#random = random
    const calls = new Map<string, Routine[]>()
    for (const routine of routines) {
      const known = routine.schema === 'pg_catalog' ? isCommon(routine.name) : random.chance(0.3)
      if (!known || routine.set || routine.kind !== 'f') continue
      const type = SHORT[routine.returns]
      if (type) calls.set(type, [...(calls.get(type) ?? []), routine])
    }
    this.#calls = calls
  }

  /** `traps`: how many at the most. */
  statement(traps: number): string {
    this.#traps = traps
    const r = this.#random
    const query = this.query(2)
    const share = r.next()
    if (share < 0.72) return query
    if (share < 0.8) return `explain ${r.pick(['', '(analyze) ', 'analyze ', '(verbose) ', '(analyze false) '])}${query}`
    if (share < 0.88) return `copy (${query}) to stdout`
    if (share < 0.92) return `declare ${r.pick(['c', 'd', '"C"'])} ${r.pick(['', 'scroll '])}cursor for ${query}`
    if (share < 0.95) return `prepare ${r.pick(['p', 'q'])} as ${query}`
    return r.pick(['fetch all from c', 'fetch 2 from d', 'move 1 in c', 'execute p', 'execute q', 'close c', 'deallocate p'])
  }

  query(depth: number): string {
    const r = this.#random
    const share = depth > 0 ? r.next() : 1
    if (share < 0.1)
      return `with w (id, name) as ${r.pick(['', 'materialized ', 'not materialized '])}(${this.#pair(depth - 1)}) select ${this.#value('int', W, depth - 1)}, ${this.#value('text', W, depth - 1)} from w i`
    if (share < 0.14)
      return `with recursive w (id, name) as (${this.#pair(0)} union all select id + 100, name from w where id < 50) select * from w i where ${this.#value('bool', W, 1)}`
    if (share < 0.2) return `${this.#pair(depth - 1)} ${r.pick(['union', 'union all', 'intersect', 'except', 'except all'])} ${this.#pair(depth - 1)}`
    if (share < 0.23) return `values (${this.#value('int', NOTHING, depth)}, ${this.#value('text', NOTHING, depth)}), (1, 'x')`
    if (share < 0.33) return this.#grouped(depth)
    return this.#select(depth)
  }

  /** An int and a text. */
  #pair(depth: number): string {
    const [source, columns] = this.#source(depth)
    return `select ${this.#value('int', columns, depth)}, ${this.#value('text', columns, depth)} from ${source} where ${this.#value('bool', columns, depth)}`
  }

  #select(depth: number): string {
    const r = this.#random
    const [source, columns] = this.#source(depth)
    const targets = r.some(3, () => (r.chance(0.12) ? r.pick(['i.*', 'i', '*', 'count(*) over ()']) : this.#value(r.pick(TYPES), columns, depth)))
    const where = r.chance(0.5) ? ` where ${this.#value('bool', columns, depth)}` : ''
    const order = r.chance(0.2)
      ? ` order by ${this.#value(r.pick(['int', 'text', 'ts']), columns, depth - 1)} ${r.pick(['', 'desc', 'nulls first', 'using <'])}`
      : ''
    const limit = r.chance(0.2) ? ` ${r.pick(['limit 2', 'offset 1', 'fetch first row only', `limit ${this.#value('int', NOTHING, 0)}`])}` : ''
    return `select ${targets.join(', ')} from ${source}${where}${order}${limit}`
  }

  #grouped(depth: number): string {
    const r = this.#random
    const [source, columns] = this.#source(depth)
    const key = this.#value(r.pick(['int', 'text', 'bool']), columns, depth - 1)
    const sum = r.oneOf(
      () => `sum(${this.#value('int', columns, depth - 1)})`,
      () => `count(distinct ${this.#value('text', columns, depth - 1)}) filter (where ${this.#value('bool', columns, depth - 1)})`,
      () => `array_agg(${this.#value('int', columns, depth - 1)} order by ${this.#value('text', columns, depth - 1)})`,
      () => `percentile_disc(0.5) within group (order by ${this.#value('int', columns, depth - 1)})`,
      () => `json_agg(${this.#value('json', columns, depth - 1)})`,
    )
    return `select ${key} as k, ${sum} from ${source} group by ${r.pick(['1', 'k', 'rollup (1)', 'grouping sets ((1), ())'])}${r.chance(0.3) ? ` having ${this.#trapOr('bool', () => 'count(*) > 0')}` : ''}`
  }

  /** Called `i`. */
  #source(depth: number): readonly [string, Columns] {
    const r = this.#random
    if (depth > 0 && r.chance(0.15)) return [`(${this.#pair(depth - 1)}) i (id, name)`, W]
    if (depth > 0 && r.chance(0.15)) {
      const [left, columns] = r.pick(SOURCES)
      return [
        `${left} i ${r.pick(['join', 'left join'])} lateral (${this.#pair(depth - 1)
          .replaceAll('i.', 'z.')
          .replace(/ i( |$)/, ' z$1')}) k on ${this.#value('bool', columns, depth - 1)}`,
        columns,
      ]
    }
    if (this.#traps > 0 && r.chance(0.08)) {
      this.#traps--
      return [`${r.pick(TRAP_SOURCES)} i`, NOTHING]
    }
    const [name, columns] = r.pick(SOURCES)
    return [`${name} i`, columns]
  }

  #trapOr(type: Type, make: () => string): string {
    if (this.#traps > 0 && this.#random.chance(0.12)) {
      this.#traps--
      return this.#random.pick(TRAPS[type])
    }
    return make()
  }

  #value(type: Type, columns: Columns, depth: number): string {
    return this.#trapOr(type, () => {
      const r = this.#random
      const here = columns[type] ?? []
      if (depth <= 0 || r.chance(0.3)) return here.length > 0 && r.chance(0.75) ? r.pick(here) : r.pick(LITERALS[type])
      if (r.chance(0.25)) {
        const calls = this.#calls.get(type)
        if (calls) return callOf(r.pick(calls), r)
      }
      const of = (wanted: Type) => this.#value(wanted, columns, depth - 1)
      if (r.chance(0.08)) return `case when ${of('bool')} then ${of(type)} else ${of(type)} end`
      if (r.chance(0.06)) return `coalesce(${of(type)}, ${of(type)})`
      if (r.chance(0.04)) return `nullif(${of(type)}, ${of(type)})`
      switch (type) {
        case 'int':
          return r.oneOf(
            () => `(${of('int')} ${r.pick(['+', '-', '*', '#', '&'])} ${of('int')})`,
            () => `length(${of('text')})`,
            () => `(select count(*)::int from (${this.query(depth - 1)}) q)`,
            () => `cardinality(array[${of('int')}])`,
            () => `(${of('text')} || '1')::text::int`,
            () => `abs(${of('int')})`,
          )
        case 'text':
          return r.oneOf(
            () => `(${of('text')} || ${of('text')})`,
            () => `${r.pick(['upper', 'lower', 'md5', 'btrim', 'reverse'])}(${of('text')})`,
            () => `(${of(r.pick(TYPES))})::text`,
            () => `format('%s', ${of('int')})`,
            () => `substring(${of('text')} from 1 for 2)`,
            () => `(${of('json')} ->> 'a')`,
            () => `string_agg(${of('text')}, ',') over (order by ${of('int')})`,
          )
        case 'bool':
          return r.oneOf(
            () => `${of('int')} ${r.pick(['=', '<', '>', '<>', '>='])} ${of('int')}`,
            () => `${of('text')} ${r.pick(['=', '<', 'like', 'ilike', '~', '^@', '<>'])} ${of('text')}`,
            () => `(${of('bool')} ${r.pick(['and', 'or'])} ${of('bool')})`,
            () => `${of('int')} in (${of('int')}, ${of('int')})`,
            () => `exists (${this.query(depth - 1)})`,
            () => `${of('int')} = any (array[${of('int')}])`,
            () => `${of('int')} between ${of('int')} and ${of('int')}`,
            () => `not ${of('bool')}`,
            () => `(${of('int')}, ${of('text')}) = (${of('int')}, ${of('text')})`,
            () => `${of(r.pick(TYPES))} is ${r.pick(['', 'not '])}null`,
            () => `${of('text')} is distinct from ${of('text')}`,
            () => `${of('json')} @> ${of('json')}`,
          )
        case 'num':
          return r.oneOf(
            () => `(${of('num')} ${r.pick(['+', '*', '-'])} ${of('num')})`,
            () => `round(${of('num')})`,
            () => `${of('int')}::numeric`,
          )
        case 'json':
          return r.oneOf(
            () => `to_jsonb(${of(r.pick(TYPES))})`,
            () => `jsonb_build_object('a', ${of(r.pick(TYPES))})`,
            () => `(${of('json')} -> 'a')`,
            () => `jsonb_build_array(${of('int')}, ${of('text')})`,
            () => `jsonb_path_query_first(${of('json')}, '$.a')`,
          )
        default:
          return r.oneOf(
            () => `date_trunc('day', ${of('ts')})`,
            () => `(${of('ts')} + interval '1 day')`,
            () => `greatest(${of('ts')}, now())`,
          )
      }
    })
  }
}

const TYPES = ['int', 'text', 'bool', 'num', 'json', 'ts'] as const
type Type = (typeof TYPES)[number]
type Columns = Readonly<Partial<Record<Type, readonly string[]>>>

const SHORT: Readonly<Record<string, Type>> = {
  integer: 'int',
  text: 'text',
  boolean: 'bool',
  numeric: 'num',
  jsonb: 'json',
  'timestamp with time zone': 'ts',
}
const NOTHING: Columns = {}
const W: Columns = { int: ['i.id'], text: ['i.name'] }
const ITEMS: Columns = { int: ['i.id', 'i.qty'], text: ['i.name'], num: ['i.price'], ts: ['i.at'] }

const SOURCES: readonly (readonly [string, Columns])[] = [
  ['app.items', ITEMS],
  ['app.items', ITEMS],
  ['app.calm_barrier', ITEMS],
  ['app.calm_invoker', ITEMS],
  ['app.writable', ITEMS],
  ['app.calm_view', { int: ['i.id', 'i.qty'], text: ['i.name'] }],
  [
    'app.everything',
    {
      int: ['i.id', 'i.i2::int', 'i.ia[1]', 'i.dm::int', '(i.co).a'],
      text: ['i.t', 'i.vc', 'i.u::text', 'i.mo::text', '(i.co).b', 'i.ta[1]', 'i.nm::text'],
      bool: ['i.b', 'i.ip <<= i.cd', 'i.tv @@ i.tq'],
      num: ['i.n'],
      json: ['i.jb'],
      ts: ['i.tstz'],
    },
  ],
  ['app.sales', { int: ['i.item', 'i.n'], ts: ['i.day::timestamptz'] }],
  ['app.sales_old', { int: ['i.item', 'i.n'] }],
  ['app.parent', { int: ['i.id'], text: ['i.name'] }],
  ['only app.parent', { int: ['i.id'], text: ['i.name'] }],
  ['app.holder', { int: ['i.id', 'i.n', '(i.p).a'], text: ['i.e', '(i.p).e'] }],
  ['app.guarded_calmly', { int: ['i.id'], text: ['i.owner'] }],
  ['public.items', { int: ['i.id'], text: ['i.note'] }],
  ['pg_catalog.pg_class', { text: ['i.relname::text'], bool: ['i.relhasindex'] }],
  ['pg_catalog.pg_proc', { text: ['i.proname::text'], int: ['i.pronargs::int'] }],
  ['information_schema.columns', { text: ['i.column_name::text'], int: ['i.ordinal_position::int'] }],
]

const TRAP_SOURCES =
  `app.trap app.trap_where app.trap_deep app.trap_counter app.trap_lock app.trap_operator app.trap_domain app.trap_values app.guarded app.guarded_view app.program app.rows_of(1) app.wrote('x')
  app.liar_stable(1) app.runs('select/**/app.wrote(1::text)::text') json_populate_record(null::app.holder,'{"e":"x"}') shadow.items pg_advisory_lock(3) nextval('app.counter') extensions.dblink('dbname=shop','select/**/1')`.split(
    /\s+/,
  )

/** Each writes when it runs, if the session may. */
const TRAPS: Readonly<Record<Type, readonly string[]>> = {
  int: [
    "app.wrote('x')",
    "wrote('x')",
    'app.liar_stable(1)',
    'app.liar_immutable(1)',
    'liar_counts(2)',
    'app.liar_sql(1)',
    'app.as_owner(1)',
    'as_owner_quietly(1)',
    "nextval('app.counter')::int",
    "setval('app.counter', 5)::int",
    'app.peek(row(1, null, 1, 1, now())::app.items)',
    "app.abs('x')",
    "abs('x'::text)",
    'app.evil_sum(1)',
    'app.evil_sum(1) over ()',
    "app.sum(row(1, 'x')::app.pair)",
    "sum(row(1,'x')::app.pair)",
    "'ok'::app.mood::int",
    "(1 + 'ok'::app.mood)",
    '(app.to_pair(1)).a',
    'app.takes_pair(1)',
    '(1::app.pair).a',
    'takes_pair(5)',
    'pg_advisory_lock(1)::text::int',
    'pg_backend_pid()',
    'lo_create(0)::int',
    'lo_unlink(77)',
    'app.counted()::int',
    'counted_quietly()::int',
    "currval('app.counter')::int",
    '(select count(*)::int from app.trap)',
    "(with d as (insert into app.log values ('cte') returning 1) select 1)",
    '(select n from app.trap_deep limit 1)',
    'txid_current()::int',
    "length(set_config('app.x', 'y', false))",
    'app.length(row(1, null, 1, 1, now())::app.items)',
    "'1'::app.evil_number",
    "(array['1'::app.evil_number])[1]",
    "pg_notify('c1', 'x')::text::int",
    'i.peek',
    '(i).peek',
    'peek(i)',
    'i.length',
    "(row(1,'x')::app.pair).takes_pair",
    'lo_open(77, 393216)',
    'pg_stat_reset()::text::int',
    'app.calm_stable(1)::int',
    'app.calm(2)',
  ],
  text: [
    "'x'::app.evil_domain",
    "cast('x' as evil_domain)",
    "app.evil_domain 'x'",
    "('(1,x)'::app.holds_evil).e",
    "(row(1,'x')::app.holds_evil).e",
    "('{x}'::app.evil_domain[])[1]",
    '(json_populate_record(null::app.holder, \'{"e":"x"}\')).e',
    '(jsonb_populate_record(null::app.holds_evil, \'{"e":"x"}\')).e',
    "app.lower(row(1,'x')::app.pair)",
    "lower(row(1,'x')::app.pair)",
    'upper(5)',
    'concat(1, 2)',
    'public.concat(1, 2)',
    "shadow.lower('x')",
    'shadow.version()',
    'version()::text',
    'now()::text',
    'current_database()::text',
    "app.runs('select app.wrote(''x'')::text')",
    "query_to_xml('select app.wrote(''x'')', true, true, '')::text",
    'json_value(\'{"a":"x"}\', \'$.a\' returning app.evil_domain)',
    '(select e from json_to_record(\'{"e":"x"}\') as j (e app.evil_domain))',
    "(select v from xmltable('/r' passing ('<r>1</r>'::xml) columns v app.evil_domain path '.') x)",
    "(select v from json_table('[\"x\"]', '$[*]' columns (v app.evil_domain path '$')) t)",
    "pg_input_is_valid('x', 'app.evil_domain')::text",
    "(pg_input_error_info('x', 'app.evil_domain')).message",
    "set_config('work_mem', '1MB', false)",
    "pg_read_file(':scratch/../hostname')",
    "array_to_string(array['x'::app.evil_domain], ',')",
    "extensions.dblink_exec('dbname=shop', 'delete from app.log')",
    "pg_logical_emit_message(true, 'a', 'b')::text",
    "'x'::shadow.text",
    '\'["(1,a)","(2,b)"]\'::app.evil_range::text',
    'i.name',
    '(i).name',
    'true::app.mood::text',
    'pg_export_snapshot()',
    'json_query(\'{"a":{"e":"x"}}\', \'$.a\' returning app.holds_evil)::text',
    "json_serialize(json_object('a': app.wrote('x')))",
  ],
  bool: [
    "1 = 'x'::text",
    "1 operator(public.=) 'x'::text",
    "1 operator(app.<=>) 'x'::text",
    "5 like 'x'::text",
    "(1 + 1) = ('x' || '')",
    "'x'::text + 1",
    "1 in (select 'x'::text)",
    "1 = any (array['x'::text])",
    "row(1, 'x')::app.pair < row(2, 'y')::app.pair",
    "row(1, 'x')::app.pair in (row(2, 'y')::app.pair)",
    'exists (select distinct i2.co from app.everything i2)',
    'exists (select co from app.everything i2 order by co)',
    'exists (select 1 from app.everything i2 group by i2.co)',
    'exists (select max(b) from app.everything)',
    "(case 1 when 'x'::text then true else false end)",
    "nullif(1, 'x'::text) is null",
    "@# row(1,'x')::app.pair",
    '1 = all (select name from app.items)',
    'pg_try_advisory_lock(5)',
    'pg_terminate_backend(:pid)',
    'pg_cancel_backend(:pid)',
    'pg_reload_conf()',
    "1 is distinct from 'x'::text",
    "exists (select 1 from app.items a join (select 'x'::text as id) b using (id))",
    "'x' between 1 and 2",
    "pg_input_is_valid('(1,x)', 'app.holds_evil')",
    'exists (select percentile_disc(0.5) within group (order by co) from app.everything)',
    'exists (select co from app.everything union select co from app.everything)',
    'exists (select rank() over (order by co) from app.everything)',
    'exists (select row_number() over (partition by co) from app.everything)',
    'exists (select 1 from app.guarded)',
    "app.op(1, 'x')",
    '1 = 1',
    '1 <> 2',
    'exists (table app.program)',
    "app.evil_range(row(1,'x')::app.pair, row(2,'y')::app.pair) is not null",
    "array[row(1,'x')::app.pair] < array[row(1,'y')::app.pair]",
    "row(row(1,'x')::app.pair) = row(row(1,'x')::app.pair)",
    "array[row(1,'x')::app.pair] @> array[row(1,'x')::app.pair]",
    '(select array_agg(distinct co) from app.everything) is null',
    '(select count(distinct co) from app.everything) = 0',
  ],
  num: [
    "app.wrote('x')::numeric",
    "'1'::app.evil_number::numeric",
    'pg_advisory_lock(2)::text::numeric',
    "nextval('app.quiet_counter')::numeric",
    '(select sum(n) from app.trap)',
  ],
  json: [
    "to_jsonb(app.wrote('x'))",
    'to_jsonb(i)',
    "jsonb_build_object('a', app.liar_stable(1))",
    "to_jsonb('x'::app.evil_domain)",
    "jsonb_agg('x'::app.evil_domain)",
    '(select to_jsonb(t) from app.trap t)',
    'jsonb_populate_record(null::app.holds_evil, \'{"e":"x"}\')::text::jsonb',
  ],
  ts: [
    'shadow.now()',
    'now()',
    "date_trunc('day', (select now() from app.trap))",
    "(app.wrote('x') || ' seconds')::interval + now()",
    'pg_conf_load_time()',
    'pg_sleep(0)::text::timestamptz',
  ],
}

const LITERALS: Readonly<Record<Type, readonly string[]>> = {
  int: ['1', '2', '0', '7', 'null::int'],
  text: ["'a'::text", "'item 1'", "'x y'", "'1'"],
  bool: ['true', 'false', 'null::bool'],
  num: ['1.5', '2.25', '10::numeric'],
  json: [`'{"a":"1"}'::jsonb`, `'[1,2]'::jsonb`],
  ts: ['now()', "timestamptz '2024-01-01 00:00Z'", "date '2024-02-03'::timestamptz"],
}
