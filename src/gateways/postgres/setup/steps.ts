import type { PostgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import { hostAndPort } from '../database/upstream.ts'
import { hbaName, identifier, schemaName, shellWord } from './names.ts'
import type { DatabaseUser } from './users.ts'

/** One thing to do, and where. Its lines can be pasted as they are. */
export interface SetupStep {
  readonly where: 'here' | 'database server' | 'psql' | 'AWS'
  readonly title: string
  readonly lines: readonly string[]
}

export interface SetupPlan {
  /** name of the resource */
  readonly name: string
  readonly spec: PostgresDatabaseSpec
  readonly users: readonly DatabaseUser[]
  readonly schemas: readonly string[]
  /** who makes the tables: what it makes later is readable too */
  readonly owner?: string | undefined
  /** where connections of Chaperone come from, as pg_hba.conf writes it */
  readonly from: string
}

/** What an administrator of the database does so that Chaperone, and nobody else, comes in as these users (threats.md 7.6). */
export function setupSteps(plan: SetupPlan): readonly SetupStep[] {
  const { auth } = plan.spec
  if (auth !== 'certificate' && 'aws_iam' in auth) return [...awsSteps(plan, auth.aws_iam.region), ...sqlSteps(plan), byIam(plan), check(plan)]
  const certificate = auth === 'certificate'
  return [
    ...(plan.spec.tls.ca === undefined ? serverCertificate(plan) : []),
    ...(certificate ? authority(plan) : []),
    ...sqlSteps(plan),
    ...(certificate ? [] : passwords(plan)),
    ...whoComesIn(plan, certificate ? 'cert' : 'scram-sha-256'),
    check(plan),
  ]
}

const AS_POSTGRES = 'as the user that PostgreSQL runs as (`sudo -iu postgres`)'

function serverCertificate({ name, spec }: SetupPlan): SetupStep[] {
  const host = spec.tls.name ?? hostAndPort(spec.address).host
  return [
    {
      where: 'database server',
      title: `A key that stays there, and a request for its certificate, ${AS_POSTGRES}`,
      lines: [
        `cd "$(psql -XAtc 'SHOW data_directory')"`,
        `openssl req -new -sha256 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout chaperone-server.key -out chaperone-server.csr -subj ${shellWord(`/CN=${host}`)}`,
        'chmod 600 chaperone-server.key',
      ],
    },
    {
      where: 'here',
      title: 'Its certificate: copy the request here (it is no secret), and the certificate back into that folder',
      lines: [`chaperone db sign-server ${shellWord(name)} --csr chaperone-server.csr > chaperone-server.crt`],
    },
    {
      where: 'psql',
      title: 'TLS, as a superuser of the database server',
      lines: [
        'ALTER SYSTEM SET ssl = on;',
        "ALTER SYSTEM SET ssl_cert_file = 'chaperone-server.crt';",
        "ALTER SYSTEM SET ssl_key_file = 'chaperone-server.key';",
      ],
    },
  ]
}

const authority = ({ name }: SetupPlan): SetupStep[] => [
  {
    where: 'here',
    title: 'Whom the database believes: copy this file into the folder of its data (SHOW data_directory)',
    lines: [`chaperone ca show ${shellWord(`database:${name}`)} > chaperone-ca.crt`],
  },
  {
    where: 'psql',
    title: 'As a superuser of the database server. Where ssl_ca_file is set already, add the text to that file instead',
    lines: ["ALTER SYSTEM SET ssl_ca_file = 'chaperone-ca.crt';"],
  },
]

/** CREATE ROLE, and for each database what it may. Repeating it changes nothing but says that the role is there. */
function sqlSteps({ spec, users, schemas, owner }: SetupPlan): SetupStep[] {
  const roles = users.flatMap(({ name, reads }) => [
    `CREATE ROLE ${identifier(name)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;`,
    ...(reads ? [`ALTER ROLE ${identifier(name)} SET default_transaction_read_only = on;`] : []),
  ])
  const everybody = users.map(({ name }) => identifier(name)).join(', ')
  const writers = users
    .filter(({ reads }) => !reads)
    .map(({ name }) => identifier(name))
    .join(', ')
  const later = owner === undefined ? '' : ` FOR ROLE ${identifier(owner)}`
  const inDatabase = (database: string): SetupStep => ({
    where: 'psql',
    title: `What they may in ${database}, as the owner of its tables or a superuser`,
    lines: [
      `\\connect ${psqlName(database)}`,
      '-- A temporary table is a write. Programs that need them are given them again: GRANT TEMPORARY ON DATABASE ... TO ...',
      `REVOKE TEMPORARY ON DATABASE ${identifier(database)} FROM PUBLIC;`,
      `GRANT CONNECT ON DATABASE ${identifier(database)} TO ${everybody};`,
      ...schemas.flatMap((schema) => {
        const at = schemaName(schema)
        return [
          `REVOKE CREATE ON SCHEMA ${at} FROM PUBLIC;`,
          `GRANT USAGE ON SCHEMA ${at} TO ${everybody};`,
          `GRANT SELECT ON ALL TABLES IN SCHEMA ${at} TO ${everybody};`,
          ...(writers
            ? [
                `GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${at} TO ${writers};`,
                `GRANT USAGE ON ALL SEQUENCES IN SCHEMA ${at} TO ${writers};`,
              ]
            : []),
          ...(owner === undefined
            ? ['-- The same for tables that this role makes later; for those of another, begin with: ALTER DEFAULT PRIVILEGES FOR ROLE ...']
            : []),
          `ALTER DEFAULT PRIVILEGES${later} IN SCHEMA ${at} GRANT SELECT ON TABLES TO ${everybody};`,
          ...(writers
            ? [
                `ALTER DEFAULT PRIVILEGES${later} IN SCHEMA ${at} GRANT INSERT, UPDATE, DELETE ON TABLES TO ${writers};`,
                `ALTER DEFAULT PRIVILEGES${later} IN SCHEMA ${at} GRANT USAGE ON SEQUENCES TO ${writers};`,
              ]
            : []),
        ]
      }),
    ],
  })
  return [
    { where: 'psql', title: 'The database users, as a superuser or with CREATEROLE; they have no password', lines: roles },
    ...spec.databases.map(inDatabase),
  ]
}

/** Functions that leave something behind and that a read-only transaction of PostgreSQL 13 to 15 does not stop (threats.md B21). */
export const LARGE_OBJECTS = [
  'pg_catalog.lo_creat(integer)',
  'pg_catalog.lo_create(oid)',
  'pg_catalog.lo_from_bytea(oid, bytea)',
  'pg_catalog.lo_put(oid, bigint, bytea)',
  'pg_catalog.lo_unlink(oid)',
  'pg_catalog.lo_truncate(integer, integer)',
  'pg_catalog.lo_truncate64(integer, bigint)',
  'pg_catalog.lowrite(integer, bytea)',
]

/** psql takes the rest of a line of \connect apart by its own rules. */
const psqlName = (name: string) => (/^[A-Za-z_][\w]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`)

function whoComesIn({ spec, users, from }: SetupPlan, method: 'cert' | 'scram-sha-256'): SetupStep[] {
  const names = users.map(({ name }) => hbaName(name)).join(',')
  return [
    {
      where: 'database server',
      title: 'Who comes in, and how: these lines above all others in pg_hba.conf (SHOW hba_file)',
      lines: [
        `hostssl ${spec.databases.map(hbaName).join(',')} ${names} ${from} ${method}`,
        `host    all ${names} all reject`,
        `local   all ${names} reject`,
      ],
    },
    { where: 'psql', title: 'And now it counts', lines: ['SELECT pg_reload_conf();'] },
  ]
}

function passwords({ spec, users }: SetupPlan): SetupStep[] {
  const sealed = spec.auth !== 'certificate' && 'password' in spec.auth ? spec.auth.password : {}
  const secretOf = (name: string) => (Object.hasOwn(sealed, name) ? sealed[name]!.secret : `${name}-password`)
  return [
    {
      where: 'psql',
      title: 'One long password for each, kept as SCRAM-SHA-256',
      lines: ["SET password_encryption = 'scram-sha-256';", ...users.map(({ name }) => `\\password ${psqlName(name)}`)],
    },
    {
      where: 'here',
      title: 'The same passwords, sealed: nobody is shown them again',
      lines: users.map(({ name }) => `chaperone secret set ${shellWord(secretOf(name))}`),
    },
  ]
}

function awsSteps({ spec, users }: SetupPlan, region: string): SetupStep[] {
  const [instance = ''] = hostAndPort(spec.address).host.split('.')
  return [
    {
      where: 'AWS',
      title: 'IAM authentication of the instance (for an Aurora cluster: modify-db-cluster --db-cluster-identifier)',
      lines: [
        `aws rds modify-db-instance --region ${region} --db-instance-identifier ${shellWord(instance)} --enable-iam-database-authentication --apply-immediately`,
      ],
    },
    {
      where: 'AWS',
      title: 'A policy for the role that the process of Chaperone runs with; ACCOUNT and RESOURCE are yours (describe-db-instances: DbiResourceId)',
      lines: [
        JSON.stringify({
          Version: '2012-10-17',
          Statement: [
            {
              Effect: 'Allow',
              Action: 'rds-db:connect',
              Resource: users.map(({ name }) => `arn:aws:rds-db:${region}:ACCOUNT:dbuser:RESOURCE/${name}`),
            },
          ],
        }),
      ],
    },
    ...(spec.tls.ca === undefined
      ? [
          {
            where: 'here' as const,
            title:
              'Whom Chaperone believes about the server: put this text into `tls.ca` of the document (or `ca: public` behind RDS Proxy), and apply it',
            lines: [`curl -fsS https://truststore.pki.rds.amazonaws.com/${region}/${region}-bundle.pem`],
          },
        ]
      : []),
  ]
}

const byIam = ({ users }: SetupPlan): SetupStep => ({
  where: 'psql',
  title: 'They come in by IAM, and by it only',
  lines: users.map(({ name }) => `GRANT rds_iam TO ${identifier(name)};`),
})

const check = ({ name, users }: SetupPlan): SetupStep => ({
  where: 'here',
  title: 'Whether all of it holds',
  lines: [
    ['chaperone db setup', shellWord(name), ...users.map((user) => `${user.reads ? '--read' : '--write'} ${shellWord(user.name)}`), '--check'].join(
      ' ',
    ),
  ],
})
