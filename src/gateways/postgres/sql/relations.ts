/** Names of tables as records and rules write them, and which of the system's own may be read with `can: read`. */

const PLAIN = /^[^."\s]+$/

const part = (name: string) => (PLAIN.test(name) ? name : `"${name.replaceAll('"', '""')}"`)

/** `schema.table`, or `table` when the statement does not say the schema. A name with a dot or a quote in it is quoted. */
export function relationName(relation: Readonly<Record<string, unknown>>): string {
  const { schemaname, relname } = relation as { schemaname?: string; relname?: string }
  const name = part(String(relname ?? ''))
  return schemaname === undefined ? name : `${part(schemaname)}.${name}`
}

/** `schema.name` of something that is known, written the same way. */
export const quotedName = ({ schema, name }: { readonly schema?: string; readonly name: string }): string =>
  schema === undefined ? part(name) : `${part(schema)}.${part(name)}`

/**
 * Relations of pg_catalog that describe the database and not its data: what psql's `\d` family, drivers and ORMs read.
 * Not here: pg_stats and pg_statistic (values of columns), pg_stat_activity and pg_stat_statements (other people's
 * queries), pg_authid and pg_shadow (password hashes), pg_user_mapping, pg_largeobject, files of the server.
 */
const CATALOG = new Set(
  `pg_aggregate pg_am pg_amop pg_amproc pg_attrdef pg_attribute pg_auth_members pg_available_extension_versions pg_available_extensions pg_cast
   pg_class pg_collation pg_constraint pg_conversion pg_database pg_db_role_setting pg_default_acl pg_depend pg_description pg_enum
   pg_event_trigger pg_extension pg_foreign_data_wrapper pg_foreign_server pg_foreign_table pg_group pg_index pg_indexes pg_inherits
   pg_init_privs pg_language pg_largeobject_metadata pg_matviews pg_namespace pg_opclass pg_operator pg_opfamily pg_parameter_acl pg_partitioned_table pg_policies
   pg_policy pg_proc pg_publication pg_publication_namespace pg_publication_rel pg_publication_tables pg_range pg_replication_slots pg_rewrite pg_roles pg_rules
   pg_seclabel pg_seclabels pg_sequence pg_sequences pg_settings pg_shdepend pg_shdescription pg_shseclabel pg_stat_all_indexes pg_stat_all_tables
   pg_stat_sys_indexes pg_stat_sys_tables pg_stat_user_indexes pg_stat_user_tables pg_statio_all_indexes pg_statio_all_tables
   pg_statio_user_indexes pg_statio_user_tables pg_statistic_ext pg_tables pg_tablespace pg_timezone_abbrevs pg_timezone_names pg_transform
   pg_trigger pg_ts_config pg_ts_config_map pg_ts_dict pg_ts_parser pg_ts_template pg_type pg_user pg_views`.split(/\s+/),
)

/** `"a.b".c` -> ['"a.b"', 'c']; a name without a schema -> [undefined, name]. */
function split(relation: string): readonly [string | undefined, string] {
  const [, first, second] = /^("(?:[^"]|"")*"|[^."]*)(?:\.(.*))?$/s.exec(relation) ?? [undefined, relation]
  return second === undefined ? [undefined, first!] : [first, second]
}

/**
 * Undefined: not one of the system's. True: describes the database. False: shows data, other people, or the server.
 * An unqualified `pg_...` counts as the system's: pg_catalog is searched before any schema of the user.
 */
export function isCatalogRead(relation: string): boolean | undefined {
  const [schema, name] = split(relation)
  if (schema === 'information_schema') return !/user_mapping|^_pg_/.test(name)
  if (schema === 'pg_catalog' || (schema === undefined && name.startsWith('pg_'))) return CATALOG.has(name)
  if (schema !== undefined && /^pg_toast/.test(schema)) return false
  return undefined
}

/** Where a name may lead: itself, or one candidate a schema of the search path. Undefined when the path is not known. */
export function candidates(relation: string, path: readonly string[] | undefined): readonly string[] | undefined {
  const [schema, name] = split(relation)
  if (schema !== undefined) return [relation]
  if (name.startsWith('pg_')) return [`pg_catalog.${name}`]
  return path?.filter((searched) => searched !== 'pg_catalog').map((searched) => `${part(searched)}.${name}`)
}
