/**
 * Where the parse tree of libpg-query holds other nodes, for every node that can stand inside a query. `nodes` hold a
 * wrapped node (`{ "FuncCall": {...} }`) or a list of them; `typed` hold the bare message of one type. A field with an
 * object that is not written here makes the statement unclear: a part of the tree that nobody looks at is where a write
 * would hide.
 */
export interface Shape {
  readonly nodes?: readonly string[]
  readonly typed?: Readonly<Record<string, string>>
}

const leaf: Shape = {}
const nodes = (...names: string[]): Shape => ({ nodes: names })

export const SHAPES: Readonly<Record<string, Shape>> = {
  A_Star: leaf,
  Alias: { nodes: ['colnames'] },
  BitString: leaf,
  Boolean: leaf,
  CurrentOfExpr: leaf,
  Float: leaf,
  Integer: leaf,
  JsonFormat: leaf,
  ParamRef: leaf,
  SetToDefault: leaf,
  SQLValueFunction: leaf,
  String: leaf,

  A_ArrayExpr: nodes('elements'),
  A_Indices: nodes('lidx', 'uidx'),
  A_Indirection: nodes('arg', 'indirection'),
  BoolExpr: nodes('args'),
  BooleanTest: nodes('arg'),
  CaseExpr: nodes('arg', 'args', 'defresult'),
  CaseWhen: nodes('expr', 'result'),
  CoalesceExpr: nodes('args'),
  CollateClause: nodes('arg', 'collname'),
  ColumnRef: nodes('fields'),
  GroupingFunc: nodes('args', 'refs'),
  GroupingSet: nodes('content'),
  InferClause: nodes('indexElems', 'whereClause'),
  List: nodes('items'),
  MinMaxExpr: nodes('args'),
  MultiAssignRef: nodes('source'),
  NamedArgExpr: nodes('arg'),
  NullTest: nodes('arg'),
  ResTarget: nodes('indirection', 'val'),
  ReturningClause: nodes('options', 'exprs'),
  ReturningOption: leaf,
  RowExpr: nodes('args', 'colnames'),
  TypeCast: { nodes: ['arg'], typed: { typeName: 'TypeName' } },
  TypeName: nodes('names', 'typmods', 'arrayBounds'),
  ColumnDef: { nodes: ['constraints', 'fdwoptions'], typed: { typeName: 'TypeName', collClause: 'CollateClause' } },
  IndexElem: nodes('expr', 'collation', 'opclass', 'opclassopts'),
  WindowDef: nodes('partitionClause', 'orderClause', 'startOffset', 'endOffset'),
  XmlExpr: nodes('named_args', 'arg_names', 'args'),
  XmlSerialize: { nodes: ['expr'], typed: { typeName: 'TypeName' } },

  JsonAggConstructor: { nodes: ['agg_filter', 'agg_order'], typed: { output: 'JsonOutput', over: 'WindowDef' } },
  JsonArgument: { typed: { val: 'JsonValueExpr' } },
  JsonArrayAgg: { typed: { constructor: 'JsonAggConstructor', arg: 'JsonValueExpr' } },
  JsonArrayConstructor: { nodes: ['exprs'], typed: { output: 'JsonOutput' } },
  JsonArrayQueryConstructor: { nodes: ['query'], typed: { output: 'JsonOutput', format: 'JsonFormat' } },
  JsonBehavior: nodes('expr'),
  JsonFuncExpr: {
    nodes: ['pathspec', 'passing'],
    typed: { context_item: 'JsonValueExpr', output: 'JsonOutput', on_empty: 'JsonBehavior', on_error: 'JsonBehavior' },
  },
  JsonIsPredicate: { nodes: ['expr'], typed: { format: 'JsonFormat' } },
  JsonKeyValue: { nodes: ['key'], typed: { value: 'JsonValueExpr' } },
  JsonObjectAgg: { typed: { constructor: 'JsonAggConstructor', arg: 'JsonKeyValue' } },
  JsonObjectConstructor: { nodes: ['exprs'], typed: { output: 'JsonOutput' } },
  JsonOutput: { typed: { typeName: 'TypeName', returning: 'JsonReturning' } },
  JsonParseExpr: { typed: { expr: 'JsonValueExpr', output: 'JsonOutput' } },
  JsonReturning: { typed: { format: 'JsonFormat' } },
  JsonScalarExpr: { nodes: ['expr'], typed: { output: 'JsonOutput' } },
  JsonSerializeExpr: { typed: { expr: 'JsonValueExpr', output: 'JsonOutput' } },
  JsonTable: {
    nodes: ['passing', 'columns'],
    typed: { context_item: 'JsonValueExpr', pathspec: 'JsonTablePathSpec', on_error: 'JsonBehavior', alias: 'Alias' },
  },
  JsonTableColumn: {
    nodes: ['columns'],
    typed: { typeName: 'TypeName', pathspec: 'JsonTablePathSpec', format: 'JsonFormat', on_empty: 'JsonBehavior', on_error: 'JsonBehavior' },
  },
  JsonTablePathSpec: nodes('string'),
  JsonValueExpr: { nodes: ['raw_expr', 'formatted_expr'], typed: { format: 'JsonFormat' } },

  JoinExpr: { nodes: ['larg', 'rarg', 'usingClause', 'quals'], typed: { join_using_alias: 'Alias', alias: 'Alias' } },
  RangeFunction: { nodes: ['functions', 'coldeflist'], typed: { alias: 'Alias' } },
  RangeSubselect: { nodes: ['subquery'], typed: { alias: 'Alias' } },
  RangeTableFunc: { nodes: ['docexpr', 'rowexpr', 'namespaces', 'columns'], typed: { alias: 'Alias' } },
  RangeTableFuncCol: { nodes: ['colexpr', 'coldefexpr'], typed: { typeName: 'TypeName' } },

  CTECycleClause: nodes('cycle_col_list', 'cycle_mark_value', 'cycle_mark_default'),
  CTESearchClause: nodes('search_col_list'),
  MergeWhenClause: nodes('condition', 'targetList', 'values'),
  OnConflictClause: { nodes: ['targetList', 'whereClause'], typed: { infer: 'InferClause' } },

  // These mean something by themselves as well; walk.ts says what, then goes on by this table.
  A_Expr: nodes('name', 'lexpr', 'rexpr'),
  FuncCall: { nodes: ['funcname', 'args', 'agg_order', 'agg_filter'], typed: { over: 'WindowDef' } },
  RangeTableSample: nodes('relation', 'method', 'args', 'repeatable'),
  SortBy: nodes('node', 'useOp'),
  SubLink: nodes('testexpr', 'operName', 'subselect'),
  SelectStmt: {
    nodes: [
      'distinctClause',
      'targetList',
      'fromClause',
      'whereClause',
      'groupClause',
      'havingClause',
      'windowClause',
      'valuesLists',
      'sortClause',
      'limitOffset',
      'limitCount',
    ],
    typed: { larg: 'SelectStmt', rarg: 'SelectStmt' },
  },
  InsertStmt: { nodes: ['cols', 'selectStmt'], typed: { onConflictClause: 'OnConflictClause', returningClause: 'ReturningClause' } },
  UpdateStmt: { nodes: ['targetList', 'whereClause', 'fromClause'], typed: { returningClause: 'ReturningClause' } },
  DeleteStmt: { nodes: ['usingClause', 'whereClause'], typed: { returningClause: 'ReturningClause' } },
  MergeStmt: { nodes: ['sourceRelation', 'joinCondition', 'mergeWhenClauses'], typed: { returningClause: 'ReturningClause' } },
}
