import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { create, toJsonString } from "@bufbuild/protobuf";
import {
  type DesiredEntry,
  DesiredEntrySchema,
  type DesiredState,
  DesiredStateSchema,
} from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import type { WalArchive, WalReport, WalReportAck } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { fail, toFailure } from "@coppice/proto/kit/failure";
import type { Logger } from "pino";
import type { ArchiveOptions, RunningArchive } from "../wal/receive/archive.ts";
import { type HeldState, readDesired, type Secrets, writeDesired } from "./desired-file.ts";

/** What archiving is started with. */
export type StartedArchive = Pick<ArchiveOptions, "archive" | "secret" | "folder" | "signal">;

/** What desired state is kept with. */
export interface DesiredOptions {
  /** The agent's data folder. */
  readonly folder: string;
  readonly archive: (started: StartedArchive) => RunningArchive;
  readonly log: Logger;
}

/** What the agent keeps true, with or without a control plane, until it is disposed. */
export interface Desired extends AsyncDisposable {
  /** Revision that is held; 0 is none. */
  readonly revision: bigint;
  /** Takes a page; with the last one the revision is stored and carried out. */
  take(page: DesiredState): void;
  acknowledge(ack: WalReportAck): void;
  reports(): WalReport[];
  repeat(): void;
}

interface Running {
  /** The entry with its secrets: another text is another archive. */
  readonly text: string;
  readonly clusterId: string;
  readonly archive: RunningArchive;
  readonly ending: AbortController;
}

/** Reads what is held and carries it out at once. Fails with JOURNAL_DAMAGED. */
export async function openDesired({ folder, archive, log }: DesiredOptions): Promise<Desired> {
  let held: HeldState = await readDesired(folder);
  const running = new Map<string, Running>();
  let pages: DesiredState[] = [];
  // One revision after the other.
  let turn = Promise.resolve();

  async function stop(id: string, { ending, archive: ended, clusterId }: Running, isForGood: boolean): Promise<void> {
    running.delete(id);
    ending.abort();
    await ended.ended.catch((error: unknown) => log.error({ err: error, clusterId }, "archiving of WAL ended badly"));
    if (!isForGood) return;
    await ended.withdraw?.().catch((error: unknown) => {
      const { reason, message } = toFailure(error);
      log.error({ clusterId, reason }, `the server may still be told to archive here: ${message}`);
    });
  }
  async function reconcile(): Promise<void> {
    const wanted = new Map(held.state.entries.map((entry) => [entry.id, { entry, text: textOf(entry, held.secrets) }]));
    const stale = [...running].filter(([id, { text }]) => wanted.get(id)?.text !== text);
    await Promise.all(stale.map(([id, one]) => stop(id, one, !wanted.has(id))));
    for (const [id, { entry, text }] of wanted) {
      if (running.has(id) || entry.desired.case !== "walArchive") continue;
      running.set(id, await start(entry.desired.value, text));
    }
  }
  async function start(wanted: WalArchive, text: string): Promise<Running> {
    const ending = new AbortController();
    const { secrets } = held;
    const parent = join(folder, "wal");
    await mkdir(parent, { recursive: true, mode: 0o700 });
    const started = archive({
      archive: wanted,
      // What was stored of one server or in one repository says nothing of another.
      folder: join(parent, `${wanted.clusterId}_${wanted.systemIdentifier}_${wanted.repository?.repositoryId}`),
      secret: (id) =>
        id === ""
          ? undefined
          : (secrets.get(id) ?? fail("SECRET_UNREADABLE", `the desired state came without the secret ${id}`)),
      signal: ending.signal,
    });
    log.info({ cluster: wanted.clusterName }, "WAL is archived");
    return { text, clusterId: wanted.clusterId, archive: started, ending };
  }
  async function hold(state: DesiredState): Promise<void> {
    const secrets = new Map(
      state.entries.flatMap((entry) => entry.secrets.map(({ id, value }) => [id, value] as const)),
    );
    for (const entry of state.entries) entry.secrets = [];
    const next = { state, secrets };
    await writeDesired(folder, next);
    held = next;
    await reconcile();
  }

  await reconcile();
  return {
    get revision() {
      return held.state.revision;
    },
    take(page) {
      if (pages.some(({ revision }) => revision !== page.revision)) pages = [];
      pages.push(page);
      if (!page.last) return;
      const entries = pages.flatMap((one) => one.entries);
      pages = [];
      const state = create(DesiredStateSchema, { revision: page.revision, last: true, entries });
      turn = turn
        .then(() => hold(state))
        .catch((error: unknown) => log.error({ err: error }, "the desired state could not be carried out"));
    },
    acknowledge({ clusterId, number }) {
      for (const one of running.values()) if (one.clusterId === clusterId) one.archive.acknowledge(number);
    },
    reports: () => [...running.values()].flatMap((one) => one.archive.report() ?? []),
    repeat: () => running.forEach((one) => one.archive.repeat()),
    async [Symbol.asyncDispose]() {
      await turn;
      await Promise.all([...running].map(([id, one]) => stop(id, one, false)));
    },
  };
}

function textOf(entry: DesiredEntry, secrets: Secrets): string {
  const values = JSON.stringify([...secrets].toSorted(([one], [two]) => (one < two ? -1 : 1)));
  return `${toJsonString(DesiredEntrySchema, entry)}${values}`;
}
