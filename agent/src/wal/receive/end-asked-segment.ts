import type { EndSegment } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { toFailure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { openConnection } from "../../postgres/connect.ts";
import { resolveEndpoint } from "../../postgres/endpoint.ts";
import { endSegment, type SegmentEnd } from "../../postgres/wal/end-segment.ts";
import type { ArchiveOptions } from "./archive.ts";

/** Ends segments of the server that is archived, when somebody asks for it. */
export interface AskedSegments {
  /** Returns at once; what stands in the way is logged, and it is tried again when it is asked for again. */
  end(asked: EndSegment): void;
  /** Resolves when nothing is under way. */
  rest(): Promise<void>;
}

const giveUpMs = 30_000;

/** Why the server was left as it is. */
const leftAlone: Readonly<Record<Exclude<SegmentEnd, "switched" | "past">, string>> = {
  standby: "the server is a standby and ends none",
  elsewhere: "the server is another one, on another timeline, or not that far",
};

/**
 * Opens what ends them: a backup of a standby waits for WAL that an idle primary has not ended. The same is asked every few
 * seconds as long as somebody waits, so one at a time is carried out, and the same trouble is logged once.
 */
export function openAskedSegments({
  archive,
  secret,
  clientFiles,
  log,
  signal,
}: Pick<ArchiveOptions, "archive" | "secret" | "clientFiles" | "log" | "signal">): AskedSegments {
  const { connection, systemIdentifier, clusterName } = archive;
  let underWay: Promise<void> | undefined;
  /** The newest one that has ended: nothing is left to do for it. */
  let ended: string | undefined;
  let trouble: string | undefined;

  async function carryOut({ timeline, lsn }: EndSegment): Promise<SegmentEnd> {
    const endpoint = await resolveEndpoint(connection?.endpoint, secret(connection?.passwordSecret ?? ""), clientFiles);
    await using opened = await openConnection(endpoint, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(giveUpMs)]),
    });
    return await endSegment(opened, { systemIdentifier, timeline, endLsn: parseLsn(lsn) });
  }
  function note(what: string, why: string): void {
    if (signal.aborted || trouble === `${what} ${why}`) return;
    trouble = `${what} ${why}`;
    log.warn({ cluster: clusterName }, `the segment of WAL with ${what} was not ended for who waits for it: ${why}`);
  }

  return {
    end(asked) {
      const { timeline, lsn } = asked;
      const what = `${lsn} on timeline ${timeline}`;
      if (underWay || signal.aborted || what === ended || asked.systemIdentifier !== systemIdentifier) return;
      underWay = carryOut(asked)
        .then((end) => {
          if (end === "standby" || end === "elsewhere") return note(what, leftAlone[end]);
          ended = what;
          if (end === "switched") log.info({ cluster: clusterName, timeline, lsn }, "a segment was ended when asked");
        })
        .catch((error: unknown) => note(what, toFailure(error).message))
        .finally(() => (underWay = undefined));
    },
    rest: async () => await underWay,
  };
}
