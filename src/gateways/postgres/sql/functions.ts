import type { Effect } from '../../../policy/types.ts'
import type { Routine } from '../mirror/types.ts'
import type { Surroundings } from './surroundings.ts'

/**
 * What calling a function does, by its name in pg_catalog. An allow-list: what is not in `READ` is not a read, because
 * no list of bad names is ever complete (threats.md B21 to B25). A test asks a real server that every name exists there
 * and that none but `VOLATILE_READS` is volatile.
 */
const words = (text: string) => text.trim().split(/\s+/)

const AGGREGATES = words(`
  any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every json_agg json_agg_strict
  json_object_agg json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict jsonb_agg jsonb_agg_strict jsonb_object_agg
  jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict max min mode percentile_cont percentile_disc range_agg
  range_intersect_agg regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop
  stddev_samp string_agg sum var_pop var_samp variance xmlagg
  cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number`)

const NUMBERS = words(`
  abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh bit_count cbrt ceil ceiling cos cosd cosh cot cotd degrees div erf
  erfc exp factorial floor gamma gcd lcm lgamma ln log log10 min_scale mod num_nonnulls num_nulls pi pow power radians round scale sign sin
  sind sinh sqrt tan tand tanh trim_scale trunc width_bucket to_bin to_hex to_oct to_number generate_series crc32 crc32c`)

const TEXT = words(`
  ascii bit_length btrim casefold char_length character_length chr concat concat_ws convert convert_from convert_to decode encode format
  get_bit get_byte initcap is_normalized left length like like_escape lower lpad ltrim md5 normalize notlike octet_length overlay
  parse_ident position quote_ident quote_literal quote_nullable regexp_count regexp_instr regexp_like regexp_match regexp_matches
  regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr repeat replace reverse right rpad rtrim set_bit set_byte sha224
  sha256 sha384 sha512 similar_escape similar_to_escape split_part starts_with string_to_array string_to_table strpos substr substring
  textlen to_ascii translate unicode_assigned unicode_version unistr upper hashtext hashtextextended`)

const TIMES = words(`
  age date_add date_bin date_part date_subtract date_trunc extract isfinite justify_days justify_hours justify_interval make_date
  make_interval make_time make_timestamp make_timestamptz now overlaps statement_timestamp timezone to_char to_date to_timestamp
  transaction_timestamp pg_conf_load_time pg_postmaster_start_time`)

const VALUES = words(`
  array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position array_positions array_prepend array_remove
  array_replace array_reverse array_sort array_to_json array_to_string array_upper cardinality trim_array unnest
  enum_first enum_last enum_range generate_subscripts
  json_array_elements json_array_elements_text json_array_length json_build_array json_build_object json_each json_each_text json_extract_path
  json_extract_path_text json_object json_object_keys json_populate_record json_populate_recordset json_strip_nulls json_to_record
  json_to_recordset json_typeof jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object
  jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_keys jsonb_path_exists
  jsonb_path_exists_tz jsonb_path_match jsonb_path_match_tz jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz
  jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record jsonb_populate_record_valid
  jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof
  row_to_json to_json to_jsonb
  xmlcomment xmlexists xmltext xml_is_well_formed xml_is_well_formed_content xml_is_well_formed_document xpath xpath_exists
  daterange datemultirange int4range int4multirange int8range int8multirange numrange nummultirange tsrange tsmultirange tstzrange
  tstzmultirange isempty lower_inc lower_inf upper_inc upper_inf multirange range_merge
  area box bound_box center circle diagonal diameter height isclosed ishorizontal isopen isparallel isperp isvertical line lseg npoints
  path pclose point polygon popen radius slope width
  abbrev broadcast family host hostmask inet_merge inet_same_family macaddr8_set7bit masklen netmask network set_masklen
  array_to_tsvector get_current_ts_config json_to_tsvector jsonb_to_tsvector numnode phraseto_tsquery plainto_tsquery querytree setweight strip
  to_tsquery to_tsvector ts_debug ts_delete ts_filter ts_headline ts_lexize ts_parse ts_rank ts_rank_cd ts_token_type tsquery_phrase
  tsvector_to_array websearch_to_tsquery
  bool bpchar bytea char cidr date float4 float8 int2 int4 int8 interval macaddr macaddr8 money name numeric oid regclass text time
  timestamp timestamptz timetz varbit varchar xid xml bit
  uuid_extract_timestamp uuid_extract_version`)

/** What psql's `\d` family, drivers and ORMs ask at their start. */
const CATALOG = words(`
  acldefault aclexplode col_description current_database current_schema current_schemas current_setting current_user format_type
  getdatabaseencoding has_any_column_privilege has_column_privilege has_database_privilege has_foreign_data_wrapper_privilege
  has_function_privilege has_language_privilege has_parameter_privilege has_schema_privilege has_sequence_privilege has_server_privilege
  has_table_privilege has_tablespace_privilege has_type_privilege icu_unicode_version inet_client_addr inet_client_port inet_server_addr
  inet_server_port makeaclitem mxid_age obj_description oidvectortypes pg_available_extension_versions pg_available_extensions pg_backend_pid
  pg_basetype pg_char_to_encoding pg_client_encoding pg_collation_for pg_collation_is_visible pg_column_compression pg_column_is_updatable
  pg_column_size pg_conversion_is_visible pg_describe_object pg_encoding_max_length pg_encoding_to_char pg_extension_update_paths
  pg_filenode_relation pg_function_is_visible pg_get_acl pg_get_catalog_foreign_keys pg_get_constraintdef pg_get_expr
  pg_get_function_arg_default pg_get_function_arguments pg_get_function_identity_arguments pg_get_function_result pg_get_function_sqlbody
  pg_get_functiondef pg_get_indexdef pg_get_keywords pg_get_object_address pg_get_partition_constraintdef pg_get_partkeydef
  pg_get_publication_tables pg_get_replica_identity_index pg_get_ruledef pg_get_serial_sequence pg_get_statisticsobjdef
  pg_get_statisticsobjdef_columns pg_get_statisticsobjdef_expressions pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_has_role
  pg_identify_object pg_identify_object_as_address pg_index_column_has_property pg_index_has_property pg_indexam_has_property
  pg_is_other_temp_schema pg_listening_channels pg_my_temp_schema pg_opclass_is_visible
  pg_operator_is_visible pg_opfamily_is_visible pg_options_to_table pg_partition_root pg_relation_filenode pg_relation_is_publishable
  pg_relation_is_updatable pg_sequence_parameters pg_settings_get_flags pg_show_all_settings pg_size_bytes pg_size_pretty
  pg_statistics_obj_is_visible pg_table_is_visible pg_tablespace_databases pg_tablespace_location pg_timezone_names pg_trigger_depth
  pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible pg_type_is_visible pg_typeof pg_wal_lsn_diff
  row_security_active session_user shobj_description system_user to_regclass to_regcollation to_regnamespace to_regoper to_regoperator
  to_regproc to_regprocedure to_regrole to_regtype to_regtypemod txid_current_if_assigned pg_current_xact_id_if_assigned pg_current_snapshot
  txid_current_snapshot version
  pg_stat_get_analyze_count pg_stat_get_autoanalyze_count pg_stat_get_autovacuum_count pg_stat_get_blocks_fetched pg_stat_get_blocks_hit
  pg_stat_get_dead_tuples pg_stat_get_ins_since_vacuum pg_stat_get_last_analyze_time pg_stat_get_last_autoanalyze_time
  pg_stat_get_last_autovacuum_time pg_stat_get_last_vacuum_time pg_stat_get_live_tuples pg_stat_get_mod_since_analyze pg_stat_get_numscans
  pg_stat_get_tuples_deleted pg_stat_get_tuples_fetched pg_stat_get_tuples_inserted pg_stat_get_tuples_returned pg_stat_get_tuples_updated`)

/** Volatile for the planner's sake (a clock, a random number, a size on disk), and yet nothing changes. */
export const VOLATILE_READS: readonly string[] = words(`
  array_sample array_shuffle clock_timestamp currval gen_random_uuid lastval pg_collation_actual_version pg_database_collation_actual_version
  pg_advisory_unlock_all pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_size pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused pg_last_wal_receive_lsn
  pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_jit_available pg_partition_ancestors pg_partition_tree pg_relation_size
  pg_table_size pg_tablespace_size pg_total_relation_size random random_normal timeofday uuidv4 uuidv7`)

/** Written like functions in the tree, but they are syntax (`EXTRACT`, `SUBSTRING ... FROM`), or methods of TABLESAMPLE. */
const SYNTAX = words('pg_collation_for xmlexists overlay position bernoulli system')

export const READ_FUNCTIONS: ReadonlySet<string> = new Set([
  ...AGGREGATES,
  ...NUMBERS,
  ...TEXT,
  ...TIMES,
  ...VALUES,
  ...CATALOG,
  ...VOLATILE_READS,
  ...SYNTAX,
])

/** Known for what they do, so that a record and a role can say it more exactly than "anything". */
const KNOWN: readonly (readonly [RegExp, readonly Effect[]])[] = [
  [/^(nextval|setval|txid_current|pg_current_xact_id)$/, ['write']],
  [/^(lo_import|lo_export)$/, ['write', 'admin', 'egress']],
  [/^(lo_|loread$|lowrite$)/, ['read', 'write']],
  [/^pg_(try_)?advisory_/, ['write']],
  [/^pg_notify$/, ['write', 'egress']],
  [/^pg_sleep/, ['admin']],
  [/^(set_config|setseed)$/, ['admin']],
  [/^pg_(read_|ls_|stat_file$)/, ['read', 'admin']],
  [
    /^pg_(cancel_backend|terminate_backend|reload_conf|rotate_logfile|switch_wal|create_restore_point|promote|log_|backup_|logical_emit_message)/,
    ['admin'],
  ],
  [
    /^pg_(stat_|show_|prepared_|lock_status$|mcv_list_items$|hba_file_rules$|ident_file_mappings$|get_replication_slots$|control_)/,
    ['read', 'admin'],
  ],
]

const ANYTHING: readonly Effect[] = ['read', 'write', 'destroy', 'admin', 'egress']

export interface FunctionEffects {
  readonly effects: readonly Effect[]
  /** Its code is not known here: it may read any table. */
  readonly opaque: boolean
  /** It may change any setting too; absent: as `opaque`. */
  readonly loose?: boolean
}

const READ: FunctionEffects = { effects: ['read'], opaque: false }
const UNKNOWN: FunctionEffects = { effects: ANYTHING, opaque: true }

/** `builtin`: the name stands in pg_catalog, written out or found there first. */
export function effectsOfFunction(name: string, builtin: boolean): FunctionEffects {
  if (!builtin) return UNKNOWN
  if (READ_FUNCTIONS.has(name)) return READ
  const known = KNOWN.find(([pattern]) => pattern.test(name))
  // `query_to_xml`, `table_to_xml`, `ts_stat`, `ts_rewrite` run SQL that no parser saw: they stay unknown (B19).
  return known ? { effects: known[1], opaque: name === 'set_config' } : UNKNOWN
}

/** Stable, they say, so the planner runs them, also below an EXPLAIN that runs nothing (`LIMIT txid_current()`); and they take a transaction id. */
export const RUN_BY_PLANNER: ReadonlySet<string> = new Set(['txid_current', 'pg_current_xact_id'])

/** The functions of information_schema are all of one kind: they make columns of its views readable. JDBC calls them too. */
export const isStandardRead = (name: string) => name.startsWith('_pg_')

/** Named like a type: a call with one argument may be a cast. */
const TYPES: ReadonlySet<string> = new Set(
  words(`bit bool bpchar bytea char cidr date float4 float8 inet int2 int4 int8 interval json jsonb macaddr macaddr8 money name numeric oid
    regclass text time timestamp timestamptz timetz uuid varbit varchar xid xml`),
)
export const isTypeFunction = (name: string) => TYPES.has(name)

/**
 * Declared to change nothing, known to read what it likes: nobody keeps a function to its word but a session that cannot write. It
 * may change settings all the same, `default_transaction_read_only` among them, and lift that from the next transaction.
 */
const DECLARED: FunctionEffects = { effects: ['read'], opaque: true }
/** Somebody who answers for it says that it only reads. */
const VOUCHED: FunctionEffects = { ...DECLARED, loose: false }

/** Only a superuser makes functions in C. */
export const isTrusted = ({ language, volatility }: Routine) => volatility !== 'volatile' && (language === 'c' || language === 'internal')

/**
 * What running something of the user's does. What it says of itself counts where the server holds it to that (a session
 * that is read-only from its start), or the owner of the database has looked into it. A volatile one counts as reviewed only by its
 * whole name: a glob would let in what somebody adds later.
 */
export function effectsOfRoutine(routine: Routine, { pinnedReadOnly, reviewed }: Surroundings): FunctionEffects {
  const { schema, name, volatility } = routine
  if (schema === 'pg_catalog' && routine.language === 'internal') return effectsOfInternal(name, volatility)
  const full = `${schema}.${name}`
  if (reviewed?.isNamed(full)) return VOUCHED
  if (volatility === 'volatile') return UNKNOWN
  if (reviewed?.isMatched(full)) return VOUCHED
  if (!pinnedReadOnly) return UNKNOWN
  return isTrusted(routine) ? VOUCHED : DECLARED
}

/** PostgreSQL's own, reached through an operator, cast or aggregate of the user's: `int4pl` is on no list of calls. */
function effectsOfInternal(name: string, volatility: Routine['volatility']): FunctionEffects {
  const listed = effectsOfFunction(name, true)
  return listed === UNKNOWN && volatility !== 'volatile' && !/_to_xml|^ts_/.test(name) ? READ : listed
}
