import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { openLog } from "@coppice/proto/kit/log";
import { openBudget, usualBudgetBytes } from "./budget.ts";
import { handlers } from "./commands/registry.ts";
import { openRunner } from "./commands/runner.ts";
import type { Config } from "./config.ts";
import { openDesired } from "./desired/desired.ts";
import { claimFolder } from "./journal/exclusive.ts";
import { openJournal } from "./journal/journal.ts";
import { discoverClusters } from "./postgres/discover.ts";
import { agentClientFiles } from "./postgres/endpoint.ts";
import { readIdentity } from "./session/identity.ts";
import { keepLink } from "./session/link.ts";
import type { Outbox } from "./session/outbox.ts";
import { agentVersion } from "./version.ts";
import { runWalArchive } from "./wal/push/run-archive.ts";
import { withdrawArchive } from "./wal/withdraw/withdraw-archive.ts";

/**
 * Runs the agent until the signal aborts: then commands are aborted and clear away behind themselves, their results are
 * told while the session lasts, and it ends with a Goodbye. Fails at once with NOT_ENROLLED, AGENT_RUNNING,
 * DATA_FOLDER_UNUSABLE or JOURNAL_DAMAGED; later trouble is logged and does not end it.
 */
export async function runAgent({ dataDirectory, logLevel }: Config, signal: AbortSignal): Promise<void> {
  const log = openLog({ level: logLevel, name: "agent" });
  const identity = await readIdentity(dataDirectory);
  await using _claim = await claimFolder(dataDirectory);
  await using journal = await openJournal(dataDirectory);
  const workFolder = await makeWorkFolder(dataDirectory);
  const clientFiles = agentClientFiles(process.env, homedir());
  const budget = openBudget(usualBudgetBytes);
  await using kept = await openDesired({
    folder: dataDirectory,
    archive: (started) => runWalArchive({ ...started, clientFiles, budget, log }, dataDirectory),
    withdraw: (left, stopped) => withdrawArchive({ ...left, clientFiles, budget, dataDirectory }, stopped),
    log,
  });
  let outbox: Outbox | undefined;
  await using runner = openRunner({
    handlers,
    journal,
    report: (message) => outbox?.put(message),
    workFolder,
    chainFolder: join(dataDirectory, "chains"),
    walFolder: join(dataDirectory, "wal"),
    agentVersion: agentVersion(),
    clientFiles,
    budget,
    log,
  });
  log.info({ version: agentVersion(), host: identity.hostName, dataDirectory }, "agent starts");

  // The session outlives the commands, so that their last results can be told.
  const leaving = new AbortController();
  const link = keepLink(
    {
      identity,
      agentVersion: agentVersion(),
      bootId: randomUUID(),
      capabilities: [...Object.keys(handlers), "walArchive", "walPush"],
      runner,
      kept,
      discover: discoverClusters,
      onOutbox: (opened) => (outbox = opened),
      log,
    },
    leaving.signal,
  );
  const stop = () => void runner.stop().then(() => leaving.abort());
  if (signal.aborted) stop();
  else signal.addEventListener("abort", stop, { once: true });
  await link;
  log.info("agent ends");
}

/** An empty folder for large files; what an agent that was killed left there is of no use to anybody. */
async function makeWorkFolder(dataDirectory: string): Promise<string> {
  const folder = join(dataDirectory, "work");
  await rm(folder, { recursive: true, force: true });
  // As root, PostgreSQL's programs run as the server's user: it has to pass through, and each file is given to it.
  await mkdir(folder, { mode: process.getuid?.() === 0 ? 0o711 : 0o700 });
  return folder;
}
