import type { Bench, BenchRequest } from "../bench.ts";
import { openLab } from "../lab.ts";
import { median, takeTurns } from "../measure.ts";
import { makeRow } from "../row.ts";
import { deleteBackups, takeArguments } from "./backups.ts";
import { type Ground, memoryRow, openGround } from "./ground.ts";
import { archiveSettings, openPgBackRest } from "./pgbackrest.ts";

const name = "base-backup";
const runs = 3;

/** A way to take a backup and to get it back. */
interface Side {
  prepare(): Promise<void>;
  take(): Promise<number>;
  restore(directory: string): Promise<void>;
  finish(): Promise<void>;
}

const takeTar = `pg_basebackup --pgdata="$1" --format=tar --wal-method=stream --checkpoint=fast \
  --compress=server-zstd:level=3,workers=2`;
const unpackTar = `mkdir -m 700 "$2"; zstd -q -d -c "$1/base.tar.zst" | tar -x -C "$2"; tar -x -f "$1/pg_wal.tar" -C "$2/pg_wal"
chown -R --reference="\${2%/*}" "$2"`;

async function* run(request: BenchRequest) {
  const { say } = request;
  await using lab = await openLab(request, "folder", archiveSettings);
  const ground = await openGround(lab);
  const peer = await openPgBackRest(lab, { isAsync: false });
  const tar = lab.peerTarget("pg_basebackup");
  const sides: Record<"ours" | "pgbackrest" | "pg_basebackup", Side> = {
    ours: {
      prepare: () => Promise.resolve(),
      take: () => lab.time(takeArguments("full")),
      restore: async (directory) =>
        void (await lab.cop.must(["restore", "create", "bench", "--to", `db7:${directory}`])),
      finish: () => deleteBackups(lab),
    },
    pgbackrest: {
      async prepare() {
        await peer.clear();
        await peer.archive(true);
      },
      take: () => lab.timeScript(`${peer.command} --type=full backup`),
      restore: async (directory) =>
        void (await lab.timeScript(
          `${peer.command} --pg1-path="$1" --type=immediate --target-action=promote restore`,
          directory,
        )),
      finish: () => peer.archive(false),
    },
    pg_basebackup: {
      prepare: async () => void (await lab.timeScript('rm -rf "$1"', tar)),
      take: () => lab.timeScript(takeTar, tar),
      restore: async (directory) => void (await lab.timeScript(unpackTar, tar, directory)),
      finish: () => Promise.resolve(),
    },
  };
  const checked = (side: Side) => async () => {
    await side.prepare();
    await lab.settle();
    const took = await side.take();
    await checkBack(ground, side, lab.digest);
    await side.finish();
    return took;
  };
  const { ours, ...taken } = await takeTurns(
    {
      ours: checked(sides.ours),
      pgbackrest: checked(sides.pgbackrest),
      pg_basebackup: checked(sides.pg_basebackup),
    },
    { runs, onRun: (who, number, ms) => say(`${name}: ${who} ${number || "warm-up"}: ${(ms / 1000).toFixed(2)} s`) },
  );
  for (const [peerName, values] of Object.entries(taken))
    yield makeRow({ name, ours: median(ours) / 1000, peer: median(values) / 1000, peerName, unit: "s", runs });
  yield await memoryRow(lab, name, runs);
}

/** A backup counts only when a server made of it has the same rows. */
async function checkBack(ground: Ground, { restore }: Side, digest: string): Promise<void> {
  const directory = ground.newDirectory();
  await restore(directory);
  await ground.check(directory, digest);
}

/** How long a full physical backup takes, its WAL included, and how much memory the agent needs for it. */
export const baseBackup: Bench = {
  summary:
    "coppice backup create --kind full, WAL and the whole command, against pgBackRest and pg_basebackup to a file; the agent's memory",
  run,
};
