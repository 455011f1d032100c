// Incremental backups verified as a chain: everything that a restore would read, and that it belongs together.
import { chmod, copyFile, open, rename } from "node:fs/promises";
import { join } from "node:path";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifyRepository } from "../../agent/src/offline/verify.ts";
import { verifyChain } from "../../agent/src/physical/verify/verify-chain.ts";
import { openPhysicalLab, physicalContent, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

describe.each([17, 18])("a chain of PostgreSQL %i", (major) => {
  const stack = new AsyncDisposableStack();
  const chain: BackupAddress[] = [];
  const manifestKeys: string[] = [];
  let server: PostgresServer;
  let lab: PhysicalLab;

  beforeAll(async () => {
    server = stack.use(await openPostgresServer({ major, settings: { summarize_wal: "on", wal_log_hints: "on" } }));
    await server.sql("postgres", "create table t as select generate_series(1, 1000) as n");
    lab = stack.use(await openPhysicalLab(server));
    for (const index of [0, 1, 2]) {
      const command = Object.assign(lab.command(), index === 0 ? {} : { incremental: true, parent: chain.at(-1) });
      const { manifest } = await lab.take(command);
      const { parentBackupId, backupManifest } = physicalContent(manifest);
      if (parentBackupId !== (chain.at(-1)?.backupId ?? "")) throw new Error("it is no chain");
      manifestKeys.push(backupManifest?.objects[0]?.key ?? "");
      chain.push(command.backup);
      await server.sql("postgres", "update t set n = n + 1");
    }
  });
  afterAll(() => stack.disposeAsync());

  async function verify(addresses: readonly BackupAddress[], isContent = true) {
    await using storage = await lab.storage();
    return await verifyChain({
      addresses,
      withStorage: (_address, work) => work(storage),
      ...(isContent && {
        content: {
          identitiesOf: () => undefined,
          openOther: () => Promise.reject(new Error("it is no physical backup")),
        },
      }),
      signal: AbortSignal.timeout(60_000),
      onProgress() {},
    });
  }

  test("is read whole and belongs together", async () => {
    const { result, failure } = await verify(chain);
    expect(failure).toBeUndefined();
    expect(result).toMatchObject({ problems: [], parents: ["bkp_1", "bkp_2"] });
    const alone = await verify(chain.slice(0, 1));
    expect(alone.result.objects).toBeLessThan(result.objects);
  });

  test("is broken by a backup that is not the parent, as its manifest says and as PostgreSQL's label does", async () => {
    const [first, middle, last] = chain;
    if (!first || !middle || !last) throw new Error("there is no chain");
    const { failure, result } = await verify([first, last], false);
    expect(failure).toMatchObject({
      reason: "BACKUP_CHAIN_BROKEN",
      message: "the backup bkp_3 builds on bkp_2, not on bkp_1",
    });
    expect(result.problems).toMatchObject([{ backupId: "bkp_3", affects: "all" }]);
    const withContent = await verify([first, last]);
    const said = withContent.result.problems.map(({ message }) => message).join("\n");
    expect(said).toMatch(/its backup_label says that it builds on a backup from \S+, and its parent is from \S+/);
  });

  test("is damaged where one of it is, and that one is named, also by the agent alone", async () => {
    const [, middle] = chain;
    if (!middle) throw new Error("there is no chain");
    const file = join(lab.folderOf(middle), manifestKeys[1] ?? "");
    await copyFile(file, `${file}.kept`);
    await chmod(file, 0o600);
    await using handle = await open(file, "r+");
    await handle.write(Buffer.from("damaged!"), 0, 8, 100);
    const { result, failure } = await verify(chain, false);
    expect(failure).toMatchObject({ reason: "DIGEST_MISMATCH" });
    expect(result.problems).toMatchObject([{ backupId: "bkp_2", affects: "backup_manifest" }]);
    expect(result.parents).toEqual(["bkp_1", "bkp_2"]);
    const offline = verifyRepository({ repo: lab.repository, only: "shop" }, AbortSignal.timeout(60_000));
    await expect(offline).rejects.toMatchObject({
      reason: "DIGEST_MISMATCH",
      message: expect.stringMatching(/^1 of 3 /) as unknown,
    });
    await rename(`${file}.kept`, file);
  });
});
