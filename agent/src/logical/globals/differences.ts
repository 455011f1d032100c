import type { PostgresConnection } from "../../postgres/connect.ts";
import type { GlobalStatement } from "./statements.ts";

/** Roles, tablespaces and memberships of a cluster. */
export interface PresentGlobals {
  readonly roles: ReadonlyMap<string, PresentRole>;
  readonly tablespaces: ReadonlyMap<string, PresentTablespace>;
  /** Role and member, as JSON of both. */
  readonly memberships: ReadonlySet<string>;
}

interface PresentTablespace {
  readonly owner: string;
  readonly location: string;
  /** Whether it is as CREATE TABLESPACE made it: without privileges, options and comment. */
  readonly isBare: boolean;
}

interface PresentRole {
  readonly name: string;
  readonly attributes: readonly string[];
  readonly limit: number;
  readonly valid_until: string | null;
  /** Null where it cannot be seen. */
  readonly has_password: boolean | null;
  readonly settings: readonly string[] | null;
}

const rolesStatement = (passwords: string) => `
select r.rolname::text as name, r.rolconnlimit as limit, r.rolvaliduntil::text as valid_until, ${passwords} as has_password,
  array[case when r.rolsuper then 'superuser' else 'nosuperuser' end, case when r.rolinherit then 'inherit' else 'noinherit' end,
    case when r.rolcreaterole then 'createrole' else 'nocreaterole' end, case when r.rolcreatedb then 'createdb' else 'nocreatedb' end,
    case when r.rolcanlogin then 'login' else 'nologin' end, case when r.rolreplication then 'replication' else 'noreplication' end,
    case when r.rolbypassrls then 'bypassrls' else 'nobypassrls' end] as attributes,
  (select s.setconfig from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = 0) as settings
from pg_roles r`;

/** The key of a membership in PresentGlobals. */
export function membershipKey(role: string, member: string): string {
  return JSON.stringify([role, member]);
}

/** What is in the cluster. Fails like a query. */
export async function readPresent(connection: PostgresConnection): Promise<PresentGlobals> {
  const { sees } = await connection.queryOne<{ sees: boolean }>(
    "select has_table_privilege('pg_authid', 'select') as sees",
  );
  const passwords = sees ? "(select a.rolpassword is not null from pg_authid a where a.oid = r.oid)" : "null::boolean";
  const roles = await connection.query<PresentRole>(rolesStatement(passwords));
  const spaces = await connection.query<PresentTablespace & { name: string }>(
    `select spcname::text as name, pg_get_userbyid(spcowner)::text as owner, pg_tablespace_location(oid) as location,
       spcacl is null and spcoptions is null and shobj_description(oid, 'pg_tablespace') is null as "isBare"
     from pg_tablespace`,
  );
  const members = await connection.query<{ role: string; member: string }>(
    "select pg_get_userbyid(roleid)::text as role, pg_get_userbyid(member)::text as member from pg_auth_members",
  );
  return {
    roles: new Map(roles.map((role) => [role.name, role])),
    tablespaces: new Map(spaces.map(({ name, ...space }) => [name, space])),
    memberships: new Set(members.map(({ role, member }) => membershipKey(role, member))),
  };
}

function settingDiffers(settings: readonly string[], name: string, value: string): boolean {
  const present = settings.find((each) => each.slice(0, each.indexOf("=")) === name);
  if (present === undefined) return true;
  // A list is stored with quotes of its own.
  return present.slice(name.length + 1).replaceAll('"', "") !== value.replaceAll('"', "");
}

/** What of one statement about a role that was there already is otherwise in the cluster. Passwords are never shown. */
function roleDifferences(statement: GlobalStatement & { kind: "alter-role" }, role: PresentRole): string[] {
  const { change } = statement;
  if (change.what === "setting") {
    if (change.database !== undefined || !settingDiffers(role.settings ?? [], change.name, change.value)) return [];
    return [`the setting ${change.name} is not ${JSON.stringify(change.value)}`];
  }
  if (change.what !== "attributes") return [];
  const differences = change.attributes
    .filter((attribute) => !role.attributes.includes(attribute))
    .map((attribute) => `it is not ${attribute}`);
  if (change.limit !== role.limit) differences.push(`its connection limit is ${role.limit} instead of ${change.limit}`);
  const until = change.validUntil === undefined ? undefined : Date.parse(change.validUntil);
  const present = role.valid_until === null ? undefined : Date.parse(role.valid_until);
  if (!Object.is(until, present)) differences.push("its password is valid until another time");
  if (role.has_password !== null && role.has_password !== change.hasPassword)
    differences.push(change.hasPassword ? "it has no password" : "it has a password");
  return differences;
}

/** What differs between the backup's globals and those that were in the cluster already, for people to read. */
export function listDifferences(statements: readonly GlobalStatement[], present: PresentGlobals): string[] {
  const altered = new Set<string>();
  return statements.flatMap((statement) => {
    if (statement.kind === "alter-tablespace") {
      const { tablespace } = statement;
      if (present.tablespaces.get(tablespace)?.isBare !== true || altered.has(tablespace)) return [];
      altered.add(tablespace);
      // An attempt that died between CREATE TABLESPACE and these has not come to them.
      return [`tablespace ${JSON.stringify(tablespace)}: it has none of its privileges, options and comment`];
    }
    if (statement.kind === "alter-role") {
      const role = present.roles.get(statement.role);
      const differences = role ? roleDifferences(statement, role) : [];
      return differences.map((difference) => `role ${JSON.stringify(statement.role)}: ${difference}`);
    }
    if (statement.kind === "membership") {
      const { role, member } = statement;
      if (!present.roles.has(member) || present.memberships.has(membershipKey(role, member))) return [];
      return [`role ${JSON.stringify(member)}: it is no member of ${JSON.stringify(role)}`];
    }
    if (statement.kind !== "create-tablespace") return [];
    const space = present.tablespaces.get(statement.tablespace);
    const name = `tablespace ${JSON.stringify(statement.tablespace)}`;
    if (!space) return [];
    return [
      ...(space.location === statement.location ? [] : [`${name}: its folder is ${JSON.stringify(space.location)}`]),
      ...(space.owner === statement.owner ? [] : [`${name}: it belongs to ${JSON.stringify(space.owner)}`]),
    ];
  });
}
