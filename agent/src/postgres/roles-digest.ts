import { createHash } from "node:crypto";
import { isFailure } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "./connect.ts";

/** The roles of a cluster, reduced to what tells whether they were changed. */
export interface RolesDigest {
  readonly digest: string;
  /** Whether the passwords' verifiers could be read, and are in the digest. */
  readonly readsPasswords: boolean;
}

const insufficientPrivilege = "42501";

/** By trying too: managed services refuse what the privileges would allow. */
async function readsPasswords(connection: PostgresConnection): Promise<boolean> {
  const { is_granted } = await connection.queryOne<{ is_granted: boolean }>(
    "select has_table_privilege('pg_authid', 'select') as is_granted",
  );
  if (!is_granted) return false;
  try {
    await connection.query("select rolpassword is null from pg_authid");
    return true;
  } catch (error) {
    if (isFailure(error) && error.metadata["sqlstate"] === insufficientPrivilege) return false;
    throw error;
  }
}

/**
 * A digest of roles, their memberships and settings, and tablespaces; of passwords only where they are readable, and
 * then by a digest that the server makes, so that they never leave it. Fails like a query.
 */
export async function digestRoles(connection: PostgresConnection): Promise<RolesDigest> {
  const isReadable = await readsPasswords(connection);
  const passwords = isReadable
    ? "(select jsonb_agg(encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex') order by oid) from pg_authid)"
    : "null";
  // Rows whole, because majors differ in their columns.
  const row = await connection.queryOne<{ roles: string | null; members: string | null; rest: string | null }>(`
    select (select jsonb_agg(to_jsonb(r) order by r.oid) from pg_roles r)::text as roles,
      (select jsonb_agg(to_jsonb(m) order by m.roleid, m.member, m.grantor) from pg_auth_members m)::text as members,
      jsonb_build_array((select jsonb_agg(to_jsonb(s) order by s.setrole) from pg_db_role_setting s
        where s.setdatabase = 0), (select jsonb_agg(to_jsonb(t) order by t.oid) from pg_tablespace t),
        ${passwords})::text as rest`);
  const hash = createHash("sha256");
  hash.update(JSON.stringify([row.roles, row.members, row.rest]));
  return { digest: hash.digest("hex"), readsPasswords: isReadable };
}
