import { create } from "@bufbuild/protobuf";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { ConnectionSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { expect, test } from "vitest";
import { checkCluster } from "../../agent/src/postgres/check/check.ts";
import { connectionTo } from "../support/dumps/dump-lab.ts";
import { openPhysicalLab, physicalContent } from "../support/physical/physical-lab.ts";
import { openPostgresServer } from "../support/postgres-servers.ts";

test("where PostgreSQL itself takes wrong incrementals each becomes a full one, and so does the first one after that is mended", async () => {
  await using server = await openPostgresServer({ major: 17, settings: { summarize_wal: "on" } });
  await using lab = await openPhysicalLab(server);
  expect(await server.sql("postgres", "show data_checksums")).toBe("off");
  const connection = create(ConnectionSchema, connectionTo(server));
  const items = async () => {
    const asked = { connection, password: server.password, files: { home: lab.repository } };
    const checked = await checkCluster({ ...asked, signal: AbortSignal.timeout(60_000) });
    return checked.items.filter(({ name }) => name === "incrementals").map(({ fix }) => fix);
  };
  const first = lab.command();
  await lab.take(first);
  const taken = async (on: typeof first) => {
    const command = Object.assign(lab.command(), { incremental: true, parent: on.backup });
    const { manifest } = await lab.take(command);
    return { command, kind: manifest?.kind, why: physicalContent(manifest).fullReason };
  };
  const { INCREMENTAL, FULL } = BackupKind;
  expect(await items()).toEqual([expect.stringContaining("ALTER SYSTEM SET wal_log_hints = on;")]);
  expect(await taken(first)).toMatchObject({
    kind: FULL,
    why: expect.stringMatching(/^PostgreSQL 17\.\d+ writes incrementals with stale visibility maps while/) as string,
  });
  await server.sql("postgres", "alter system set wal_log_hints = on");
  await server.stop();
  await server.start();
  // There is nothing to do any more, but to know of what no release mends.
  expect(await items()).toEqual([""]);
  // What WAL has not told before is not made good by that.
  const second = await taken(first);
  expect(second).toMatchObject({ kind: FULL, why: expect.stringMatching(/^its parent bkp_1 was taken of /) as string });
  expect(await taken(second.command)).toMatchObject({ kind: INCREMENTAL, why: "" });
});
