import type { WalArchive } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { Failure, failureFromDetail } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { printable } from "../../output/printable.ts";
import type { Terminal } from "../../output/terminal.ts";
import type { Session } from "../../session.ts";

const waitMs = 60_000;
const lookEveryMs = 500;

/**
 * Waits until the agent has told what the server says of its archiving since it was set up. Fails with what stands in the
 * way, and with AGENT_LOST when the agent tells nothing within a minute.
 */
export async function waitForArchiver(
  session: Pick<Session, "api" | "signal">,
  { cluster, clusterName, hostName }: WalArchive,
): Promise<WalArchive> {
  const api = await session.api();
  const untilMs = performance.now() + waitMs;
  for (;;) {
    const archive = await api.clusters.getWalArchive({ cluster });
    const { archiver, trouble } = archive;
    const isOff = (archiver?.restartStatements.length ?? 0) > 0;
    // Before the restart that is no trouble, but what is said below.
    if (archiver && trouble && trouble.reason !== "ARCHIVE_MODE_OFF") throw failureFromDetail(trouble);
    if (archiver?.isCommandSet || isOff) return archive;
    if (performance.now() > untilMs)
      throw new Failure("AGENT_LOST", `the agent of ${hostName} has not said yet how ${clusterName} archives`, {
        hint: `what was asked for is kept and done when it can be: coppice wal status ${clusterName}`,
      });
    await sleep(lookEveryMs, session.signal);
  }
}

/** What became of a set-up, or would. */
export function describePush(
  { clusterName, repositoryName, hostName, archiver }: WalArchive,
  { success, terminal: { paint } }: Pick<Session, "success"> & { readonly terminal: Pick<Terminal, "paint"> },
  dryRun: boolean,
): string {
  const by = `the agent of ${hostName}, and stored in ${repositoryName}`;
  if (dryRun) return success(`WAL of ${clusterName} would be handed by archive_command to ${by}; nothing was done`);
  const next = { next: `coppice wal status ${clusterName}` };
  const statements = archiver?.restartStatements ?? [];
  const meanwhile = archiver?.isHandingOver
    ? "until then it is received by the slot, as before"
    : "until then nothing is archived";
  if (statements.length === 0) {
    const also = archiver?.isHandingOver ? "; what the slot still holds is received first" : "";
    return success(`WAL of ${clusterName} is handed by archive_command to ${by}${also}`, next);
  }
  const lines = statements.map((statement) => `  ${printable(statement)}\n`).join("");
  const rest = `${paint("yellow", "!")} archive_mode is off, ${meanwhile}. As a superuser, then restart the server:\n${lines}`;
  return `${success(`archive_command of ${clusterName} is set, to hand WAL to ${by}`, next)}${rest}`;
}
