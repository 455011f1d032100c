import { create } from "@bufbuild/protobuf";
import { DecideRestoreCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/decide_restore";
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decideRestore } from "../../agent/src/logical/decide.ts";
import { listUnreadable } from "../../agent/src/postgres/check/unreadable.ts";
import { openConnection } from "../../agent/src/postgres/connect.ts";
import { resolveEndpoint } from "../../agent/src/postgres/endpoint.ts";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const stack = new AsyncDisposableStack();
const password = "of the keeper";
let server: PostgresServer;
let lab: DumpLab;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 15 }));
  lab = stack.use(await openDumpLab(server));
  await server.sql(
    "postgres",
    `create role keeper login createdb password '${password}'; create database shop owner keeper connection limit 7`,
  );
  await server.sql("shop", "create table t as select generate_series(1, 100) as id; alter table t owner to keeper");
});
afterAll(() => stack.disposeAsync());

test("a role that is no superuser swaps in what it has restored beside, under clients that connect, with its own limit", async () => {
  const dumped = await lab.dump(lab.dumpCommand({ databases: ["shop"] }));
  await server.sql("shop", "delete from t");
  const command = lab.restoreCommand(dumped, "shop", "shop", RestoreMode.HOLD);
  command.keptDatabase = "shop_kept";
  const connection = connectionTo(server);
  if (connection.endpoint) connection.endpoint.user = "keeper";
  command.connection = connection;
  const { held, keptAs } = await lab.restore(command, { password });
  expect([held?.connectionLimit, keptAs]).toEqual([7, ""]);
  if (!held) throw new Error("nothing waits");
  expect(await server.sql("shop", "select count(*) from t")).toBe("0");
  const open = (database: string) =>
    new Client({ host: "127.0.0.1", port: server.port, user: "keeper", password, database });
  await expect(open(held.name).connect()).rejects.toThrow("too many connections");

  // It is no reason to call the cluster unfit for dumps.
  const endpoint = await resolveEndpoint(connection.endpoint, password, lab.files);
  const signal = AbortSignal.timeout(60_000);
  {
    await using asked = await openConnection(endpoint, { database: "postgres", signal });
    expect((await listUnreadable(asked, signal)).map(({ database }) => database)).not.toContain(held.name);
  }
  const client = open("shop");
  client.on("error", () => {});
  await client.connect();
  const decided = create(DecideRestoreCommandSchema, {
    connection,
    held,
    decision: RestoreDecision.SWAP,
    targetDatabase: "shop",
    keptDatabase: "shop_kept",
  });
  const decision = { command: decided, password, files: lab.files, signal, log: () => {} };
  expect(await decideRestore(decision)).toMatchObject({ keptAs: "shop_kept" });
  await client.end().catch(() => {});
  expect(await server.sql("shop", "select count(*) from t")).toBe("100");
  expect(await server.sql("shop_kept", "select count(*) from t")).toBe("0");
  const limits =
    "select string_agg(datname || ' ' || datconnlimit, ', ' order by datname) from pg_database where datname ~ 'shop'";
  expect(await server.sql("postgres", limits)).toBe("shop 7, shop_kept 7");
});
