// One thing: what a host was asked to keep up, from the stream that tells it to what runs and what is withdrawn for it.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { clone, create, toJsonString } from "@bufbuild/protobuf";
import {
  type DesiredEntry,
  DesiredEntrySchema,
  type DesiredState,
  DesiredStateSchema,
} from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import {
  type EndSegment,
  WalArchiveSchema,
  type WalReport,
  type WalReportAck,
} from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { fail } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Logger } from "pino";
import type { ArchiveOptions, RunningArchive } from "../wal/receive/archive.ts";
import { endArchive } from "../wal/receive/end-archive.ts";
import type { EndedArchive } from "../wal/withdraw/withdraw-archive.ts";
import { type HeldState, readDesired, type Secrets, writeDesired } from "./desired-file.ts";
import { dueOf, leftOver } from "./left-over.ts";
import { openWithdrawLeft } from "./withdraw-left.ts";

/** What archiving is started with. */
export type StartedArchive = Pick<ArchiveOptions, "archive" | "secret" | "folder" | "signal">;

/** An archive that has ended. */
export type LeftArchive = Pick<EndedArchive, "archive" | "secret" | "next" | "isSucceeded">;

/** What desired state is kept with. */
export interface DesiredOptions {
  /** The agent's data folder. */
  readonly folder: string;
  readonly archive: (started: StartedArchive) => RunningArchive;
  /** Has a server keep nothing any more for an archive that has ended; fails while that cannot be done. */
  readonly withdraw: (left: LeftArchive, signal: AbortSignal) => Promise<void>;
  readonly log: Logger;
}

/** What the agent keeps true, with or without a control plane, until it is disposed. */
export interface Desired extends AsyncDisposable {
  /** Revision that is held; 0 is none. */
  readonly revision: bigint;
  /** Takes a page; with the last one the revision is stored and carried out. */
  take(page: DesiredState): void;
  acknowledge(ack: WalReportAck): void;
  /** Has the server of a cluster that is archived here end a segment. */
  endSegment(asked: EndSegment): void;
  reports(): WalReport[];
  repeat(): void;
}

/** A disk that is full may have room again. */
const backoff = { baseMs: 1000, capMs: 60_000 };

interface Running {
  /** The entry with its secrets: another text is another archive. */
  readonly text: string;
  readonly clusterId: string;
  readonly archive: RunningArchive;
  readonly ending: AbortController;
}

/** Reads what is held and carries it out at once. Fails with JOURNAL_DAMAGED. */
export async function openDesired({ folder, archive, withdraw, log }: DesiredOptions): Promise<Desired> {
  let held: HeldState = await readDesired(folder);
  const running = new Map<string, Running>();
  let pages: DesiredState[] = [];
  // One revision after the other.
  let turn = Promise.resolve();
  let newest: DesiredState | undefined;
  const closing = new AbortController();
  const leaving = openWithdrawLeft({
    withdraw: ({ id, archive: ended, isSucceeded }, signal) => {
      const desired = held.state.entries.find((entry) => entry.id === id)?.desired;
      const next = desired?.case === "walArchive" ? desired.value : undefined;
      const isSameServer = next?.systemIdentifier === ended.systemIdentifier;
      const { secrets } = held;
      return withdraw(
        {
          archive: ended,
          isSucceeded,
          secret: (of) => secretOf(of, secrets),
          next: isSameServer ? { archive: next, running: running.get(id)?.archive } : undefined,
        },
        signal,
      );
    },
    onDone: () => afterwards(forgetDone),
    log,
  });

  async function stop(id: string, one: Running): Promise<void> {
    const { ending, archive: ended, clusterId } = one;
    running.delete(id);
    ending.abort();
    await ended.ended.catch((error: unknown) => log.error({ err: error, clusterId }, "archiving of WAL ended badly"));
  }
  async function reconcile(): Promise<void> {
    const wanted = new Map(held.state.entries.map((entry) => [entry.id, { entry, text: textOf(entry, held.secrets) }]));
    const stale = [...running].filter(([id, { text }]) => wanted.get(id)?.text !== text);
    const due = dueOf(held.withdrawals);
    await leaving.keep(due);
    await Promise.all(stale.map(([id, one]) => stop(id, one)));
    for (const [id, { entry, text }] of wanted) {
      if (running.has(id) || entry.desired.case === undefined) continue;
      running.set(id, await start(entry.desired, text));
    }
    leaving.begin(due);
  }
  async function start(desired: Exclude<DesiredEntry["desired"], { case: undefined }>, text: string): Promise<Running> {
    const ending = new AbortController();
    const parent = join(folder, "wal");
    await mkdir(parent, { recursive: true, mode: 0o700 });
    const { clusterId } = desired.value;
    return { text, clusterId, archive: begin(desired, parent, ending.signal), ending };
  }
  function begin(
    desired: Exclude<DesiredEntry["desired"], { case: undefined }>,
    parent: string,
    signal: AbortSignal,
  ): RunningArchive {
    const { clusterId, clusterName, systemIdentifier } = desired.value;
    // What was stored of one server or in one repository says nothing of another.
    const place = (repositoryId = "") => join(parent, `${clusterId}_${systemIdentifier}_${repositoryId}`);
    if (desired.case === "walEnd")
      return endArchive({ end: desired.value, folder: place(desired.value.repositoryId), log });
    const { secrets } = held;
    log.info({ cluster: clusterName }, "WAL is archived");
    return archive({
      archive: desired.value,
      folder: place(desired.value.repository?.repositoryId),
      secret: (id) => secretOf(id, secrets),
      signal,
    });
  }
  async function hold(told: DesiredState): Promise<void> {
    const state = clone(DesiredStateSchema, told);
    const secrets = new Map(
      state.entries.flatMap((entry) => entry.secrets.map(({ id, value }) => [id, value] as const)),
    );
    for (const entry of state.entries) entry.secrets = [];
    const strays = notEnded(held.state, state);
    for (const { id } of strays)
      log.warn({ cluster: id }, "the control plane neither wants WAL of it archived nor has ended that: it goes on");
    state.entries.push(...strays);
    const withdrawals = leftOver(held, state);
    state.ended = [];
    const next = withOwnSecrets({ state, secrets: new Map([...held.secrets, ...secrets]), withdrawals });
    await writeDesired(folder, next);
    held = next;
    await reconcile();
  }
  /** What cannot be held now, for the disk is full, is tried again until something newer was told. */
  async function holdAtLast(state: DesiredState): Promise<void> {
    for (let attempt = 0; !closing.signal.aborted; attempt++) {
      if (newest !== state) return;
      try {
        return await hold(state);
      } catch (error) {
        log.error({ err: error, revision: String(state.revision) }, "the desired state is not carried out yet");
      }
      await sleep(backoffMs(attempt, backoff), closing.signal).catch(() => undefined);
    }
  }
  /** A step after the one that goes on. */
  function afterwards(step: () => Promise<void>): void {
    turn = turn
      .then(step)
      .catch((error: unknown) => log.error({ err: error }, "the desired state could not be carried out"));
  }
  /** With its secrets, which are of no use to anybody any more. */
  async function forgetDone(): Promise<void> {
    const withdrawals = held.withdrawals.filter((one) => !leaving.isDone(one));
    const next = withOwnSecrets({ ...held, withdrawals });
    await writeDesired(folder, next);
    held = next;
    await leaving.keep(dueOf(withdrawals));
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
      const ended = pages.flatMap((one) => one.ended);
      pages = [];
      const state = create(DesiredStateSchema, { revision: page.revision, last: true, entries, ended });
      newest = state;
      afterwards(() => holdAtLast(state));
    },
    acknowledge({ clusterId, number }) {
      for (const one of running.values()) if (one.clusterId === clusterId) one.archive.acknowledge(number);
    },
    endSegment(asked) {
      for (const one of running.values()) if (one.clusterId === asked.clusterId) one.archive.endSegment?.(asked);
    },
    reports: () => [...[...running.values()].flatMap((one) => one.archive.report() ?? []), ...leaving.reports()],
    repeat() {
      running.forEach((one) => one.archive.repeat());
      leaving.repeat();
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await turn;
      await leaving[Symbol.asyncDispose]();
      await Promise.all([...running].map(([id, one]) => stop(id, one)));
    },
  };
}

/**
 * Archives of a held state that another one leaves out and has not ended either. A catalog that was restored or made anew
 * does not know all that was wanted of an agent: what nobody gave up goes on. An end that is older than what is held was
 * taken back since.
 */
function notEnded(held: DesiredState, { entries, ended }: DesiredState): DesiredEntry[] {
  const settled = new Set([
    ...entries.map(({ id }) => id),
    ...ended.filter(({ revision }) => revision > held.revision).map(({ id }) => id),
  ]);
  return held.entries.filter(({ id, desired }) => desired.case === "walArchive" && !settled.has(id));
}

function secretOf(id: string, secrets: Secrets): string | undefined {
  if (id === "") return undefined;
  return secrets.get(id) ?? fail("SECRET_UNREADABLE", `the desired state came without the secret ${id}`);
}

/** With those secrets alone that something in it refers to. */
function withOwnSecrets(all: HeldState): HeldState {
  const texts = [
    ...all.state.entries.map((entry) => toJsonString(DesiredEntrySchema, entry)),
    ...all.withdrawals.map(({ archive }) => toJsonString(WalArchiveSchema, archive)),
  ];
  return { ...all, secrets: secretsIn(texts.join("\n"), all.secrets) };
}

/** Those that a text refers to. */
function secretsIn(text: string, secrets: Secrets): Secrets {
  return new Map([...secrets].filter(([id]) => text.includes(JSON.stringify(id))));
}

function textOf(given: DesiredEntry, secrets: Secrets): string {
  const entry = clone(DesiredEntrySchema, given);
  // What the catalog knew at that moment makes no other archive of it.
  if (entry.desired.case === "walArchive")
    Object.assign(entry.desired.value, { nothingArchived: false, knownClusters: [] });
  const text = toJsonString(DesiredEntrySchema, entry);
  // Those of others come and go.
  const own = secretsIn(text, secrets);
  return `${text}${JSON.stringify([...own].toSorted(([one], [two]) => (one < two ? -1 : 1)))}`;
}
