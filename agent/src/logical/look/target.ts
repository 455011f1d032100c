import { type RestoreDatabaseCommand, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { fail } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../../postgres/connect.ts";
import { findDatabase } from "../staged-database.ts";
import type { Sight } from "../../host/look.ts";

/** Whether the target's name can be had as the mode says. Fails with DATABASE_EXISTS, DATABASE_NOT_FOUND, DATABASE_IN_USE. */
export async function seeTarget(
  connection: PostgresConnection,
  {
    targetDatabase: target,
    keptDatabase: kept,
    mode,
  }: Pick<RestoreDatabaseCommand, "targetDatabase" | "keptDatabase" | "mode">,
): Promise<Sight> {
  const shown = JSON.stringify(target);
  if (target === "template0") fail("DATABASE_EXISTS", "template0 cannot be replaced");
  const oid = await findDatabase(connection, target);
  if (mode === RestoreMode.INTO) {
    if (oid === undefined) fail("DATABASE_NOT_FOUND", `there is no database ${shown} to restore into`);
    return { message: `everything goes into the database ${shown} in one transaction, or nothing` };
  }
  if (oid === undefined) return { message: `there is no database ${shown}` };
  if (mode !== RestoreMode.REPLACE && mode !== RestoreMode.HOLD)
    fail("DATABASE_EXISTS", `the database ${shown} exists already`);
  if (!kept) fail("INVALID_FIELD", `no name is given under which the database ${shown} is kept`);
  if ((await findDatabase(connection, kept)) !== undefined)
    fail("DATABASE_EXISTS", `the name ${JSON.stringify(kept)}, under which the old database would be kept, is taken`);
  await refuseHeld(connection, target);
  return { message: `the database ${shown} is kept as ${JSON.stringify(kept)}` };
}

/** Fails with DATABASE_IN_USE when something holds the database that no ending of sessions would free. */
async function refuseHeld(connection: PostgresConnection, database: string): Promise<void> {
  const holders = await connection.query<{ what: string }>(
    `select 'the prepared transaction ' || quote_literal(gid) as what from pg_prepared_xacts where database = $1
     union all select 'the replication slot ' || slot_name from pg_replication_slots where database = $1
     union all select 'the subscription ' || s.subname from pg_subscription s join pg_database d on d.oid = s.subdbid
       where d.datname = $1 and s.subenabled
     union all select distinct 'the background worker ' || quote_literal(a.backend_type) || ', which only a superuser may end'
       from pg_stat_activity a join pg_roles r on r.rolname = current_user and not r.rolsuper
       where a.datname = $1 and a.backend_type not in ('client backend', 'parallel worker')
         and a.backend_type !~ '^(autovacuum worker|walsender|logical replication)'`,
    [database],
  );
  if (holders.length > 0)
    fail(
      "DATABASE_IN_USE",
      `the database ${JSON.stringify(database)} is held by ${holders.map(({ what }) => what).join(", ")}`,
    );
}
