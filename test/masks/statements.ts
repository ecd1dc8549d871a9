import { COLUMNS } from './world.ts'

/** Makes statements out of numbers: which, decides somebody else, so that what fails can be made smaller. */
export class Maker {
  readonly #choices: readonly number[]
  /** for names that live as long as the connection */
  readonly #number: number
  #at = 0
  #aliases = 0

  constructor(choices: readonly number[], number: number) {
    this.#choices = choices
    this.#number = number
  }

  /** 0 to below `count`. Where the numbers run out, the first and simplest. */
  #choose(count: number): number {
    return (this.#choices[this.#at++] ?? 0) % count
  }

  #one<T>(list: readonly T[]): T {
    return list[this.#choose(list.length)]!
  }

  #maybe(text: () => string, one = 3): string {
    return this.#choose(one) === one - 1 ? text() : ''
  }

  #list(make: () => string, most = 3): string {
    return Array.from({ length: 1 + this.#choose(most) }, make).join(', ')
  }

  statement(): string {
    switch (this.#choose(12)) {
      case 4:
      case 5:
      case 6:
      case 7:
        return this.#short()
      case 8:
        return this.#update()
      case 9:
        return this.#insert()
      case 10:
        return this.#one([() => this.#delete(), () => this.#merge()])()
      case 11:
        return this.#other()
      default:
        return this.#query(3, [])
    }
  }

  /** One clause, and any column in it: so each clause by itself is met often. */
  #short(): string {
    const [table, other] = [this.#one(SHORT), this.#one(SHORT)]
    const [column, second] = [this.#one(COLUMNS[table]!), this.#one(COLUMNS[table]!)]
    return this.#one([
      () => `select id from ${table} order by ${column}`,
      () => `select ${second} from ${table} where ${column} = ${this.#one(["'name 1'", "'place 2'", '3', "'x'"])}`,
      () => `select ${this.#one(['id', '*', second])} from ${table} order by ${column} limit ${this.#one(['1', '3', '9'])}`,
      () => `select distinct on (${column}) ${second} from ${table} order by ${column}`,
      () =>
        this.#one([
          "select id from people where name = 'name 1'",
          'select id, amount from payments',
          'select id from pets',
          'select at, id from log where at < 20 limit 3',
        ]),
      () => `select ${column} from ${table} order by 1, ${second}`,
      () => `select distinct ${column} from ${table}`,
      () => `select distinct ${column}, ${second} from ${table} limit 4`,
      () => `select count(*) from ${table} group by ${column}`,
      () => `select a.id from ${table} a join ${other} b using (${column})`,
      () => `select count(*) from ${table} natural join ${other}`,
      () => `select a.id, b.id from ${table} a, ${other} b where a.${column}::text = b.${this.#one(COLUMNS[other]!)}::text limit 9`,
      () =>
        `select ${column} from ${table} ${this.#one(['union', 'union all', 'intersect', 'except'])} select ${this.#one(COLUMNS[other]!)} from ${other}`,
      () => `update customers set name = ${this.#one(COLUMNS.customers!)} where id < 5 returning name, ${this.#one(COLUMNS.customers!)}`,
      () => `update ${table} set ${column} = ${second} returning ${column}`,
      () =>
        `update customers set ${this.#one(COLUMNS.customers!)} = ${this.#one(["'x'", "rpad('customer3@a.example.org', 25, '.')", '3'])} where id = 1`,
      () =>
        `insert into people (id, ${this.#one(['email', 'name'])}) values (${this.#one(['99', '1'])}, ${this.#one(["rpad('person 3', 25, '.')", "rpad('z99', 25, '.')", "'x'"])})${this.#one(['', ' on conflict do nothing'])}`,
      () => `delete from orders where id = ${this.#one(['1', '2', '40', '41', '39'])}`,
      () => `select ${this.#one(['max', 'count', 'min'])}(${column}) from ${table}`,
      () => `select ${column}, row_number() over (order by ${second}) from ${table}`,
    ])()
  }

  #query(depth: number, outer: readonly Named[]): string {
    const kind = depth > 0 ? this.#choose(8) : 0
    if (kind === 6) {
      const word = this.#one(['union all', 'union', 'intersect', 'except', 'except all', 'union all'])
      return `(${this.#select(depth - 1, outer)}) ${word} (${this.#select(depth - 1, outer)})${this.#maybe(() => ` order by ${this.#one(['1', '2', 'id', 'email'])}`)}`
    }
    if (kind === 7) {
      const recursive = this.#maybe(() => 'recursive ')
      const name = `w${++this.#aliases}`
      const columns = this.#maybe(() => ' (id, email)')
      const step = recursive ? ` union all select c.id, c.email from customers c join ${name} on c.id = ${name}.id + 1` : ''
      return `with ${recursive}${name}${columns} as ((${this.#query(depth - 1, [])})${step}) ${this.#select(depth - 1, [...outer], [{ alias: name, columns: ['id', 'email', 'name', 'x'] }])}`
    }
    return this.#select(depth, outer)
  }

  #select(depth: number, outer: readonly Named[], given: readonly Named[] = []): string {
    const names: Named[] = []
    const from = this.#from(depth, outer, names, given)
    const here = [...names, ...outer]
    const distinct = this.#maybe(() => this.#one(['distinct ', 'distinct ', `distinct on (${this.#column(here)}) `]), 4)
    const list = this.#list(() => this.#target(depth, here))
    const where = this.#maybe(() => ` where ${this.#condition(depth, here)}`)
    const group = this.#maybe(() => ` group by ${this.#one(['1', '1, 2', this.#column(here), `rollup (${this.#column(here)})`, 'id'])}`, 6)
    const having = group && this.#maybe(() => ` having ${this.#condition(depth, here)}`)
    const order = this.#maybe(
      () =>
        ` order by ${this.#list(() => this.#one([() => '1', () => this.#column(here), () => this.#column(here), () => this.#value(depth, here)])(), 2)}`,
      2,
    )
    return `select ${distinct}${list} from ${from}${where}${group}${having}${order}${this.#maybe(() => ` limit ${this.#one(['1', '5', '(select count(*) from people)'])}`)}`
  }

  #from(depth: number, outer: readonly Named[], names: Named[], given: readonly Named[]): string {
    names.push(...given)
    let text = given[0]?.alias ?? this.#item(depth, outer, names)
    for (let more = this.#choose(3); more > 1; more--) {
      const left = [...names]
      const join = this.#one(['join', 'left join', 'cross join', ',', 'natural join', 'full join', 'using'])
      if (join === ',') text += `, ${this.#item(depth, outer, names, left)}`
      else if (join === 'using') text += ` join ${this.#item(depth, outer, names)} using (${this.#one(['id', 'email', 'name'])})`
      else {
        text += ` ${join} ${this.#item(depth, outer, names, join === 'join' || join === 'cross join' ? left : [])}`
        if (join !== 'cross join' && join !== 'natural join') text += ` on ${this.#condition(depth - 1, names)}`
      }
    }
    return text
  }

  #item(depth: number, outer: readonly Named[], names: Named[], left: readonly Named[] = []): string {
    const alias = `t${++this.#aliases}`
    const kind = depth > 0 ? this.#choose(7) : 0
    if (kind === 4) {
      names.push({ alias, columns: ['id', 'email', 'name', 'x', 'count'] })
      return `(${this.#query(depth - 1, outer)}) ${alias}`
    }
    if (kind === 5) {
      const inner = this.#query(depth - 1, [...left, ...outer])
      names.push({ alias, columns: ['a', 'b', 'email'] })
      return `lateral (${inner}) ${alias}${this.#maybe(() => ' (a, b)')}`
    }
    if (kind === 6) {
      names.push({ alias, columns: [alias] })
      return `${this.#one(['generate_series(1, 3)', `unnest(array['a', 'b'])`, `generate_series(1, length(${this.#column(left.length ? left : [{ alias: 'x', columns: ['y'] }])}))`, 'spy()', 'json_to_record(\'{"a":1}\')'])} ${alias}`
    }
    const table = this.#one([...TABLES, 'customers', 'customers', 'orders', 'orders', 'contacts', 'totals', 'everybody', 'people'])
    const columns = COLUMNS[table] ?? ['id']
    if (this.#choose(6) === 5) {
      const renamed = columns.map((_, i) => `c${i}`)
      names.push({ alias, columns: renamed })
      return `${table} ${alias} (${renamed.join(', ')})`
    }
    names.push({ alias, columns })
    return `${this.#one(['', '', 'public.', 'only '])}${table} ${alias}`.replace('only public.', 'only ')
  }

  /** Mostly one that is not hidden: of a statement with ten columns one hidden one is enough to be refused. */
  #column(names: readonly Named[]): string {
    const { alias, columns } = this.#one(names.length > 0 ? names : [{ alias: 'customers', columns: ['id'] }])
    const open = columns.filter((column) => !HIDDEN.has(column))
    const column = this.#one(open.length > 0 && this.#choose(5) < 4 ? open : columns)
    return this.#choose(6) < 5 ? `${alias}.${column}` : column
  }

  #target(depth: number, names: readonly Named[]): string {
    switch (this.#choose(10)) {
      case 0:
      case 1:
        return this.#column(names)
      case 2:
        return this.#one([`${this.#one(names).alias}.${this.#one(this.#one(names).columns)}`, this.#column(names)])
      case 3:
        return `${this.#column(names)} as ${this.#one(['x', 'id', 'email', 'name'])}`
      case 4:
        return '*'
      case 5:
        return `${this.#one(names).alias}.*`
      case 6:
        return `count(*) as count`
      case 7:
        return `${this.#column(names)}::text`
      default:
        return this.#value(depth, names)
    }
  }

  #value(depth: number, names: readonly Named[]): string {
    const column = () => this.#column(names)
    const deep = depth > 0
    switch (this.#choose(deep ? 22 : 14)) {
      case 0:
        return column()
      case 1:
        return this.#one(['1', "'x'", 'null', "'name 1'", 'current_date - current_date'])
      case 2:
        return `upper(${column()}::text)`
      case 3:
        return `coalesce(${column()}::text, 'none')`
      case 4:
        return `length(${column()}::text)`
      case 5:
        return `case when ${this.#condition(0, names)} then 1 else 2 end`
      case 6:
        return `${this.#one(['count', 'max', 'min'])}(${column()})`
      case 7:
        return `row_number() over (order by ${column()})`
      case 8:
        return this.#one(names.length > 0 ? names : [{ alias: 'customers', columns: [] }]).alias
      case 9:
        return `row_to_json(${this.#one(names.length > 0 ? names : [{ alias: 'customers', columns: [] }]).alias})`
      case 10:
        return `twist(${column()}::text)`
      case 11:
        return `array[${column()}]`
      case 12:
        return `${column()} || 'x'`
      case 13:
        return `(${this.#one(names.length > 0 ? names : [{ alias: 'customers', columns: [] }]).alias}).${this.#one(['email', 'id', 'tell'])}`
      case 14:
      case 15:
        return `(select * from (${this.#query(depth - 1, names)}) only_one limit 1)`
      case 16:
        return `exists (${this.#query(depth - 1, names)})`
      case 17:
        return `array(${this.#query(depth - 1, names)})`
      case 18:
        return `(select ${this.#column(names)})`
      case 19:
        return `(select email from customers where id = ${column()})`
      case 20:
        return this.#one([
          'spy()',
          `pg_column_size(${column()})`,
          `${this.#one(names.length > 0 ? names : [{ alias: 'orders', columns: [] }]).alias}.tell`,
          `${column()}::int`,
        ])
      default:
        return `${column()} in (${this.#query(depth - 1, names)})`
    }
  }

  #condition(depth: number, names: readonly Named[]): string {
    switch (this.#choose(depth > 0 ? 10 : 7)) {
      case 0:
        return `${this.#column(names)} = ${this.#one(['1', '3', '5'])}`
      case 1:
        return `${this.#column(names)}::text like '%1%'`
      case 2:
        return `${this.#column(names)} is not null`
      case 3:
        return `${this.#column(names)} = ${this.#column(names)}`
      case 4:
        return 'true'
      case 5:
        return `${this.#column(names)}::text > ${this.#column(names)}::text`
      case 6:
        return `not (${this.#column(names)} is null)`
      case 7:
        return `exists (${this.#query(depth - 1, names)})`
      case 8:
        return `${this.#column(names)} in (${this.#query(depth - 1, names)})`
      default:
        return `${this.#condition(depth - 1, names)} ${this.#one(['and', 'or'])} ${this.#condition(depth - 1, names)}`
    }
  }

  #target_(): { table: string; named: Named } {
    const table = this.#one(['customers', 'customers', 'orders', 'people', 'payments', 'log', 'pets', 'contacts', 'watched'])
    return { table, named: { alias: table, columns: COLUMNS[table] ?? ['id', 'email'] } }
  }

  #returning(names: readonly Named[]): string {
    return this.#maybe(
      () =>
        ` returning ${this.#list(() => this.#one([() => this.#target(1, names), () => '*', () => `old.${this.#one(names[0]!.columns)}`, () => `new.${this.#one(names[0]!.columns)}`])(), 2)}`,
      2,
    )
  }

  #assignments(names: readonly Named[]): string {
    return this.#list(
      () => `${this.#one(names[0]!.columns)} = ${this.#one([() => "'name 1'", () => '3', () => 'default', () => this.#value(1, names)])()}`,
      2,
    )
  }

  #update(): string {
    const { table, named } = this.#target_()
    const names = [named]
    const from = this.#maybe(() => ` from ${this.#item(1, [], names)}`, 4)
    return `update ${table} set ${this.#assignments([named, ...names])}${from}${this.#maybe(() => ` where ${this.#condition(2, names)}`, 2)}${this.#returning(names)}`
  }

  #delete(): string {
    const { table, named } = this.#target_()
    const names = [named]
    const using = this.#maybe(() => ` using ${this.#item(1, [], names)}`, 4)
    return `delete from ${table}${using} where ${this.#condition(2, names)}${this.#returning(names)}`
  }

  #insert(): string {
    const { table, named } = this.#target_()
    const columns = named.columns.slice(0, 1 + this.#choose(named.columns.length)).filter((name) => name !== 'loud')
    const source = this.#one([
      () =>
        `values (${columns.map(() => this.#one(['1', '99', "'x'", 'null', "'name 1'", 'default', "rpad('person 3', 25, '.')", "rpad('z99', 25, '.')"])).join(', ')})`,
      () => this.#query(1, []),
    ])()
    const conflict = this.#maybe(
      () =>
        ` on conflict ${this.#one(['do nothing', `(${this.#one(named.columns)}) do nothing`, `(id) do update set ${this.#assignments([named])}`, `(id) do update set name = excluded.${this.#one(named.columns)}`])}`,
    )
    return `insert into ${table} (${columns.join(', ')}) ${source}${conflict}${this.#returning([named])}`
  }

  #merge(): string {
    const { table, named } = this.#target_()
    const names = [named]
    const source = this.#item(1, [], names)
    return `merge into ${table} using ${source} on ${this.#condition(1, names)} when matched${this.#maybe(() => ` and ${this.#condition(1, names)}`)} then ${this.#one(['delete', 'do nothing', `update set ${this.#assignments([named, ...names])}`])}`
  }

  #other(): string {
    const query = () => this.#query(2, [])
    return this.#one([
      () => `explain ${query()}`,
      () => `explain (costs off) ${query()}`,
      () => `explain (verbose) ${query()}`,
      () => `explain (analyze, timing off, summary off, buffers off) ${query()}`,
      () => `explain (analyze, costs off, timing off, summary off, buffers off) ${query()}`,
      () => `explain ${this.#update()}`,
      () => `copy ${this.#one(TABLES)}${this.#maybe(() => ` (${this.#one(['id', 'name', 'email'])})`)} to stdout`,
      () => `copy (${query()}) to stdout`,
      () => `create temp table made as ${query()}`,
      () => `declare c${this.#number} cursor for ${query()}`,
      () => `fetch 2 from c${this.#number}`,
      () => `fetch all from c${this.#number}`,
      () => `prepare p${this.#number} as ${query()}`,
      () => `execute p${this.#number}`,
      () => `select * from ${this.#one(['pg_stats', 'pg_stats_ext', 'pg_statistic', 'pg_stat_activity', 'pg_statistic_ext_data'])} limit 3`,
      () => `select relname, reltuples, relpages from pg_class where relname = '${this.#one(TABLES)}'`,
      () => `select attname, attnotnull, attlen from pg_attribute where attrelid = 'customers'::regclass`,
      () => `select pg_get_viewdef('contacts'::regclass), pg_get_indexdef(i.indexrelid) from pg_index i where indrelid = 'customers'::regclass`,
      () => `table ${this.#one(TABLES)}`,
      () => `truncate ${this.#one(['payments', 'people', 'log'])}`,
      () => 'set constraints all immediate',
      () => `select query_to_xml('select email from customers', true, true, '')`,
      () => `with d as (${this.#one([() => this.#delete(), () => this.#update()])()}) select count(*) from d`,
    ])()
  }
}

interface Named {
  readonly alias: string
  readonly columns: readonly string[]
}

const TABLES = Object.keys(COLUMNS)
const SHORT = ['customers', 'customers', 'people', 'people', 'orders', 'kept', 'everybody', 'pets', 'log_1', 'payments']
const HIDDEN: ReadonlySet<string> = new Set(['email', 'code', 'born', 'score', 'loud', 'what', 'tag', 'payer', 'address', 'domain'])
