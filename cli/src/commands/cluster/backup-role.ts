import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";

/** A new role for backups: what is kept of its password here, and what the server gets instead of it. */
export interface NewRolePassword {
  readonly password: string;
  /** `SCRAM-SHA-256$…`, which PostgreSQL takes in place of a password, and from which nobody can log in. */
  readonly verifier: string;
}

/** Makes a random password with its verifier, as RFC 5803 and PostgreSQL spell it. */
export function makeRolePassword(): NewRolePassword {
  const password = randomBytes(24).toString("base64url");
  const salt = randomBytes(16);
  const iterations = 4096;
  const salted = pbkdf2Sync(password, salt, iterations, 32, "sha256");
  const hmac = (text: string) => createHmac("sha256", salted).update(text).digest();
  const storedKey = createHash("sha256").update(hmac("Client Key")).digest("base64");
  const keys = `${storedKey}:${hmac("Server Key").toString("base64")}`;
  return { password, verifier: `SCRAM-SHA-256$${iterations}:${salt.toString("base64")}$${keys}` };
}

const identifier = (name: string) => `"${name.replaceAll('"', '""')}"`;
const literal = (text: string) => `'${text.replaceAll("'", "''")}'`;

/**
 * What a superuser has to run with psql, connected to the maintenance database, so that `role` can dump everything and
 * change nothing: PostgreSQL 15 and newer. It holds no password that could be used.
 */
export function backupRoleStatements({
  role,
  verifier,
  maintenanceDatabase,
  isSocket,
}: {
  readonly role: string;
  readonly verifier: string;
  readonly maintenanceDatabase: string;
  /** Whether it logs in over a Unix socket, where Debian asks for no password by default, but for the same user. */
  readonly isSocket: boolean;
}): string {
  const name = identifier(role);
  const line = `${isSocket ? "local all" : "host  all"} ${name} ${isSocket ? "" : "ADDRESS-OF-THE-AGENT/32 "}scram-sha-256`;
  return `\\set ON_ERROR_STOP on
\\connect ${identifier(maintenanceDatabase)}
BEGIN;
-- It logs in, and row security hides nothing from its dumps.
CREATE ROLE ${name} LOGIN BYPASSRLS PASSWORD ${literal(verifier)};
-- Every table, view and sequence of every database, those to come too, and the password hashes of roles; settings, sizes.
GRANT pg_read_all_data, pg_read_all_settings, pg_read_all_stats TO ${name};
-- Databases that not everybody may connect to. New ones of that kind need the same.
SELECT format('GRANT CONNECT ON DATABASE %I TO ${name.replaceAll("%", "%%").replaceAll("'", "''")}', datname)
  FROM pg_database
 WHERE datallowconn AND NOT has_database_privilege(${literal(role)}, oid, 'CONNECT') \\gexec
COMMIT;

-- On purpose left out; run what you need:
-- Large objects of other owners, else a dump of a database that has some fails (this lets it write them, too):
--   ALTER ROLE ${name} SET lo_compat_privileges = on;
-- pg_hba.conf has to let it in; a line above the others, and then SELECT pg_reload_conf():
--   ${line}
`;
}
