import { sleep } from "@coppice/proto/kit/sleep";
import { adoptRevision, desiredRevision } from "../../catalog/physical/desired.ts";
import type { AgentSession } from "../../fleet/agent-session.ts";
import type { OperationParts } from "../parts.ts";
import { desiredState } from "./desired-state.ts";

/**
 * Keeps the agent's desired state that of the catalog as long as the session lives: told when the agent has an older
 * revision, and with every change.
 */
export async function runDesired(parts: OperationParts, session: AgentSession): Promise<void> {
  const { catalog, masterKey, agentNotices, log, pollMs } = parts;
  const { hostId, signal } = session;
  using work = agentNotices.subscribe(hostId);
  let told: bigint | undefined;
  while (!signal.aborted) {
    try {
      if (told === undefined) {
        await adoptRevision(catalog.db, hostId, session.desiredRevision);
        told = session.desiredRevision;
      }
      // The revision first: where its entries are newer already, the newer revision is told next.
      const revision = await desiredRevision(catalog.db, hostId);
      if (revision !== undefined && revision > told) {
        for (const value of await desiredState(catalog.db, masterKey, { hostId, revision })) {
          await session.send({ case: "desiredState", value });
        }
        told = revision;
        log.info({ host: hostId, revision: revision.toString() }, "desired state sent");
      }
      await work.next(pollMs, signal);
    } catch (error) {
      if (signal.aborted) return;
      log.error({ err: error, host: hostId }, "the desired state could not be sent");
      await sleep(pollMs, signal).catch(() => undefined);
    }
  }
}
