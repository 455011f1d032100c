import { create } from "@bufbuild/protobuf";
import {
  type DatabaseProperties,
  DatabasePropertiesSchema,
} from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import { type PostgresConnection, slowAnswer } from "../postgres/connect.ts";

/** A database of a cluster as its shared catalogs describe it. */
export interface ClusterDatabase {
  readonly oid: number;
  readonly name: string;
  readonly allowsConnections: boolean;
  /** Its DROP DATABASE was interrupted: nobody can connect to it, it can only be dropped again. */
  readonly isHalfDropped: boolean;
  /** Whether the login role has the right to connect to it. */
  readonly mayConnect: boolean;
  /** Whether it is the provider's own of a managed service, which no customer may look into. */
  readonly isProviders: boolean;
  readonly sizeBytes: bigint | undefined;
  readonly properties: DatabaseProperties;
  /** Roles that something in it belongs to or is granted to, without the bootstrap role. */
  readonly roles: readonly string[];
  /** Tablespaces that hold something of it, without pg_default. */
  readonly tablespaces: readonly string[];
}

interface DatabaseRow {
  oid: string;
  name: string;
  allow_connections: boolean;
  may_connect: boolean;
  is_providers: boolean;
  connection_limit: number;
  size_bytes: string | null;
  owner: string;
  encoding: string;
  locale_provider: string;
  lc_collate: string;
  lc_ctype: string;
  locale: string | null;
  icu_rules: string | null;
  collation_version: string | null;
  tablespace: string;
  is_template: boolean;
  comment: string | null;
  labels: { provider: string; label: string }[] | null;
  has_acl: boolean;
  grants: { grantor: string; grantee: string; privilege: string; grantable: boolean }[] | null;
  settings: { role: string; setting: string }[] | null;
  roles: string[] | null;
  tablespaces: string[] | null;
}

// Providers' databases: RDS and Aurora, Cloud SQL, AlloyDB, Azure. A superuser has every role, so that whoever happens to
// use such a name on a server of their own keeps that database in their backups.
// By to_jsonb where majors name a column differently: 15 and 16 have daticulocale, 17 and later datlocale.
const statement = `
select d.oid::text as oid, d.datname::text as name, d.datallowconn as allow_connections,
  has_database_privilege(d.oid, 'connect') as may_connect,
  d.datname in ('alloydbadmin', 'azure_maintenance', 'azure_sys', 'cloudsqladmin', 'rdsadmin')
    and not pg_has_role(current_user, d.datdba, 'usage') as is_providers,
  d.datconnlimit as connection_limit,
  case when has_database_privilege(d.oid, 'connect') or pg_has_role(current_user, 'pg_read_all_stats', 'usage')
    then pg_database_size(d.oid)::text end as size_bytes,
  pg_get_userbyid(d.datdba)::text as owner, pg_encoding_to_char(d.encoding)::text as encoding,
  case d.datlocprovider when 'c' then 'libc' when 'i' then 'icu' when 'b' then 'builtin'
    else d.datlocprovider::text end as locale_provider,
  d.datcollate::text as lc_collate, d.datctype::text as lc_ctype,
  coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') as locale,
  to_jsonb(d) ->> 'daticurules' as icu_rules, d.datcollversion as collation_version,
  t.spcname::text as tablespace, d.datistemplate as is_template,
  shobj_description(d.oid, 'pg_database') as comment,
  (select jsonb_agg(jsonb_build_object('provider', l.provider, 'label', l.label) order by l.provider)
    from pg_shseclabel l where l.classoid = 'pg_database'::regclass and l.objoid = d.oid) as labels,
  d.datacl is not null as has_acl,
  (select jsonb_agg(jsonb_build_object('grantor', pg_get_userbyid(a.grantor),
      'grantee', case when a.grantee = 0 then '' else pg_get_userbyid(a.grantee) end,
      'privilege', a.privilege_type, 'grantable', a.is_grantable) order by a.n)
    from aclexplode(d.datacl) with ordinality as a(grantor, grantee, privilege_type, is_grantable, n)) as grants,
  (select jsonb_agg(jsonb_build_object('role', case when s.setrole = 0 then '' else pg_get_userbyid(s.setrole) end,
      'setting', c.setting) order by s.setrole, c.n)
    from pg_db_role_setting s, unnest(s.setconfig) with ordinality as c(setting, n)
    where s.setdatabase = d.oid) as settings,
  (select array_agg(distinct r.rolname::text) from pg_shdepend h join pg_roles r on r.oid = h.refobjid
    where h.refclassid = 'pg_authid'::regclass and (h.dbid = d.oid
      or (h.dbid = 0 and h.classid = 'pg_database'::regclass and h.objid = d.oid))) as roles,
  (select array_agg(p.spcname::text order by p.spcname) from pg_tablespace p
    where p.spcname not in ('pg_default', 'pg_global') and d.oid in (select pg_tablespace_databases(p.oid)))
    as tablespaces
from pg_database d join pg_tablespace t on t.oid = d.dattablespace
order by d.datname <> 'template1', d.datname`;

/** datconnlimit of a database whose DROP DATABASE was interrupted. */
const halfDroppedLimit = -2;

function parseSetting({ role, setting }: { role: string; setting: string }): {
  role: string;
  name: string;
  value: string;
} {
  const equals = setting.indexOf("=");
  return { role, name: setting.slice(0, equals), value: setting.slice(equals + 1) };
}

function toDatabase(row: DatabaseRow): ClusterDatabase {
  return {
    oid: Number(row.oid),
    name: row.name,
    allowsConnections: row.allow_connections,
    mayConnect: row.may_connect,
    isProviders: row.is_providers,
    isHalfDropped: row.connection_limit === halfDroppedLimit,
    sizeBytes: row.size_bytes === null ? undefined : BigInt(row.size_bytes),
    roles: row.roles ?? [],
    tablespaces: row.tablespaces ?? [],
    properties: create(DatabasePropertiesSchema, {
      owner: row.owner,
      encoding: row.encoding,
      localeProvider: row.locale_provider,
      lcCollate: row.lc_collate,
      lcCtype: row.lc_ctype,
      ...(row.locale === null ? {} : { locale: row.locale }),
      ...(row.icu_rules === null ? {} : { icuRules: row.icu_rules }),
      ...(row.collation_version === null ? {} : { collationVersion: row.collation_version }),
      tablespace: row.tablespace,
      connectionLimit: row.connection_limit,
      isTemplate: row.is_template,
      ...(row.comment === null ? {} : { comment: row.comment }),
      securityLabels: row.labels ?? [],
      grants: row.grants ?? [],
      hasAcl: row.has_acl,
      settings: (row.settings ?? []).map(parseSetting),
    }),
  };
}

/** Every database of the cluster with its properties, template1 first, the others by name. Fails like a query. */
export async function listDatabases(connection: PostgresConnection): Promise<ClusterDatabase[]> {
  return (await connection.query<DatabaseRow>(statement, [], slowAnswer)).map(toDatabase);
}
