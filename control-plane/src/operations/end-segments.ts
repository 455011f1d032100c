import { create } from "@bufbuild/protobuf";
import { EndSegmentSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { sleep } from "@coppice/proto/kit/sleep";
import { listAwaitedWal } from "../catalog/operations/awaited-wal.ts";
import type { AgentSession } from "../fleet/agent-session.ts";
import type { OperationParts } from "./parts.ts";

/**
 * Asks the agent to have segments ended that operations wait for, of whatever host, as long as the session lives. The
 * catalog alone says so, each time anew: nothing is kept of what was asked, and an agent that was away hears it again.
 */
export async function runEndSegments({ catalog, log, pollMs }: OperationParts, session: AgentSession): Promise<void> {
  const { hostId, signal } = session;
  while (!signal.aborted) {
    try {
      for (const awaited of await listAwaitedWal(catalog.db, hostId))
        await session.send({ case: "endSegment", value: create(EndSegmentSchema, awaited) });
    } catch (error) {
      if (signal.aborted) return;
      log.error({ err: error, host: hostId }, "what is waited for of WAL could not be asked for");
    }
    await sleep(pollMs, signal).catch(() => undefined);
  }
}
