import { randomUUID } from "node:crypto";
import { create, toJsonString } from "@bufbuild/protobuf";
import type { FoundCluster } from "@coppice/proto/gen/coppice/agent/v1/found_cluster";
import { FoundClustersSchema } from "@coppice/proto/gen/coppice/agent/v1/inventory";
import { linkSignals, raceSignal } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Logger } from "pino";
import type { Report } from "../commands/reporter.ts";

/** What the inventory is taken with. */
export interface InventoryOptions {
  readonly discover: Discover;
  readonly report: Report;
  readonly log: Logger;
}

const lookEveryMs = 60_000;
const pageSize = 200;

/** A look at the clusters of this host. */
export type Discover = (signal: AbortSignal) => Promise<readonly FoundCluster[]>;

/**
 * Looks of which no second one begins while one is under way: a data directory on a disk that hangs cannot be left, and
 * would take a thread each time. Whoever asks meanwhile is given the same look; each stops waiting with his own signal,
 * and the look itself ends with `signal`.
 */
export function oneLook(discover: Discover, log: Logger, signal: AbortSignal): Discover {
  let looking: Promise<readonly FoundCluster[]> | undefined;
  const look = async () => {
    const late = setTimeout(
      () => log.warn("a data directory, or the disk behind it, hangs: the clusters of this host cannot be listed"),
      lookEveryMs,
    ).unref();
    try {
      return await discover(signal);
    } finally {
      clearTimeout(late);
      looking = undefined;
    }
  };
  return async (asker) => await raceSignal((looking ??= look()), asker);
}

/** Tells a new session what the host has, and again when asked or when it has changed. */
export interface InventoryReporter {
  /** Asks for a full inventory, changed or not. */
  request(): void;
  /** Looks once a minute and when asked, until the signal aborts; resolves then. */
  run(signal: AbortSignal): Promise<void>;
}

/** A reporter for one session. */
export function openInventoryReporter({ discover, report, log }: InventoryOptions): InventoryReporter {
  let wake = Promise.withResolvers<void>();
  let told: string | undefined;
  let isRequested = false;
  return {
    request() {
      isRequested = true;
      wake.resolve();
    },
    async run(signal) {
      while (!signal.aborted) {
        wake = Promise.withResolvers<void>();
        const isOwed = isRequested;
        isRequested = false;
        try {
          const clusters = await discover(signal);
          const text = toJsonString(FoundClustersSchema, create(FoundClustersSchema, { clusters: [...clusters] }));
          if (isOwed || text !== told) for (const page of pages(clusters)) report(page);
          told = text;
        } catch (error) {
          if (!signal.aborted) log.error({ err: error }, "the clusters of this host could not be listed");
        }
        using waiting = linkSignals(signal);
        await Promise.race([wake.promise, sleep(lookEveryMs, waiting.signal).catch(() => undefined)]);
        waiting.abort();
      }
    },
  };
}

type InventoryMessage = Extract<Parameters<Report>[0], { case: "inventory" }>;

/** At least one page: an empty one says that there is nothing any more. */
function pages(clusters: readonly FoundCluster[]): InventoryMessage[] {
  const inventoryId = randomUUID();
  const count = Math.max(1, Math.ceil(clusters.length / pageSize));
  return Array.from({ length: count }, (_, index) => ({
    case: "inventory",
    value: {
      inventoryId,
      last: index === count - 1,
      resources: {
        case: "clusters",
        value: { clusters: clusters.slice(index * pageSize, (index + 1) * pageSize) },
      },
    },
  }));
}
