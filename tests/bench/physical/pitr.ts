import type { Bench, BenchRequest } from "../bench.ts";
import { digestData } from "../data.ts";
import { type Lab, openLab, subject } from "../lab.ts";
import { elapsedMs, median, takeTurns } from "../measure.ts";
import { makeRow } from "../row.ts";
import { takeArguments } from "./backups.ts";
import { memoryRow, openGround, requireDigest } from "./ground.ts";
import { archiveSettings, openPgBackRest, type PgBackRest } from "./pgbackrest.ts";
import { startReceiving, waitStored } from "./received.ts";
import { openRestored, type RestoredServer } from "./restored.ts";
import { segmentsFor, writeWal } from "./write-wal.ts";

const name = "pitr";
const runs = 3;
const query = "select count(*) from pgbench_branches";
const now = "to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'";

/** Restores, starts, and waits until recovery has ended and the server answers as one that is in use. */
const recoverByPeer = ({ command }: PgBackRest) => `
${command} --pg1-path="$1" --type=time --target="$2" --target-action=promote --archive-mode=off restore
$AS_OWNER pg_ctl --pgdata="$1" --options="-p $3" --log="$1.log" --silent --wait --timeout=3600 start
export PGPORT="$3"
until [ "$(psql -XAtqc 'select pg_is_in_recovery()' 2> /dev/null)" = f ]; do sleep 0.05; done
psql -XAtqc '${query}' ${subject} > /dev/null`;

/** The moment that is to be recovered to, what was there then, and things that happened after it. */
async function makeHistory(lab: Lab, request: BenchRequest): Promise<{ time: string; digest: string }> {
  await writeWal(lab, segmentsFor(request), request);
  const digest = await digestData(lab.server, subject);
  const time = await lab.server.sql("postgres", `select pg_sleep(1.1);\nselect ${now};`).then(lastLine);
  await lab.server.sql("postgres", "select pg_sleep(1.1)");
  await lab.server.sql(subject, "drop table wide");
  const lsn = await lab.server.sql("postgres", "select pg_switch_wal()");
  await waitStored(lab, { lsn, time });
  const isArchived = `select last_archived_wal >= pg_walfile_name('${lsn}') from pg_stat_archiver`;
  await lab.timeScript('until [ "$(psql -XAtqc "$1")" = t ]; do sleep 0.2; done', isArchived);
  return { time, digest };
}

const lastLine = (text: string) => text.split("\n").at(-1) ?? "";

async function* run(request: BenchRequest) {
  const { say } = request;
  await using lab = await openLab(request, "folder", archiveSettings);
  const ground = await openGround(lab);
  const peer = await openPgBackRest(lab, { isAsync: true });
  await lab.cop.must(takeArguments("full"));
  await startReceiving(lab);
  await peer.clear();
  await peer.archive(true);
  await lab.timeScript(`${peer.command} --type=full backup`);
  const { time, digest } = await makeHistory(lab, request);
  await peer.archive(false);

  const recovered = (recover: (server: RestoredServer) => Promise<number>) => async () => {
    const directory = ground.newDirectory();
    await using server = await openRestored(lab, directory);
    await lab.settle();
    const took = await recover(server);
    await requireDigest(server, digest, directory);
    await server.stop();
    await ground.remove(directory);
    return took;
  };
  const taken = await takeTurns(
    {
      ours: recovered((server) =>
        elapsedMs(async () => {
          await lab.time(["restore", "create", subject, "--at", time, ...server.arguments]);
          const answer = await server.sql(subject, query);
          if (!/^\d+$/.test(answer)) throw new Error(`the restored server answers ${JSON.stringify(answer)}`);
        }),
      ),
      pgbackrest: recovered(({ directory, port }) =>
        lab.timeScript(recoverByPeer(peer), directory, time, String(port)),
      ),
    },
    { runs, onRun: (who, number, ms) => say(`${name}: ${who} ${number || "warm-up"}: ${(ms / 1000).toFixed(2)} s`) },
  );
  const [ours, theirs] = [median(taken.ours) / 1000, median(taken.pgbackrest) / 1000];
  yield makeRow({ name, ours, peer: theirs, peerName: "pgbackrest", unit: "s", runs });
  yield await memoryRow(lab, name, runs);
}

/** How long it takes from the command to the first answer of a server as it was at a time. */
export const pitr: Bench = {
  summary:
    "coppice restore create --at TIME --start until the first query is answered, against pgBackRest; the agent's memory",
  run,
};
