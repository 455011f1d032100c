import { join } from "node:path";
import type { PostgresServer } from "../postgres-servers.ts";
import { runProgram } from "../run-program.ts";

const checksums = `
select format('select %L, count(*), md5(string_agg(t::text, E''\\n'' order by t::text)) from only %s t', c.oid::regclass, c.oid::regclass)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema') order by c.oid::regclass::text
\\gexec
select loid, pageno, md5(data) from pg_largeobject order by 1, 2;`;

/** libpq's way to name a database whatever is in its name. */
function conninfo(server: PostgresServer, database: string): string {
  const name = database.replaceAll("\\", "\\\\").replaceAll("'", String.raw`\'`);
  return `host=127.0.0.1 port=${server.port} user=${server.superuser} dbname='${name}'`;
}

/**
 * All there is to say of a database: what pg_dump writes of it, with its own properties, and a checksum of the rows of
 * each table. Two databases of the same name are equal when these texts are.
 */
export async function portrayDatabase(server: PostgresServer, database: string): Promise<string> {
  // With --create it refuses such a name, which only then gets into its text.
  const create = database.includes("\n") ? [] : ["--create"];
  const args = [...create, "--restrict-key=fixed", `--dbname=${conninfo(server, database)}`];
  const { code, stdout, stderr } = await runProgram(join(server.binDir, "pg_dump"), args, {
    env: { PATH: "/usr/bin:/bin", LANG: "C.UTF-8", PGPASSWORD: server.password },
  });
  if (code !== 0) throw new Error(`pg_dump: ${stderr}`);
  return `${stdout}\n${await server.sql(database, checksums)}`;
}
