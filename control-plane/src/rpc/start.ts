import { create, type DescMethod, type MessageShape } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { type Operation, OperationSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { fail } from "@coppice/proto/kit/failure";
import type { Catalog, Database } from "../catalog/catalog.ts";
import { findHost } from "../catalog/host.ts";
import { requireOperation } from "../operations/watch/get.ts";
import { kindName, kindOf } from "../operations/spec.ts";
import { findRepeated, startOperation } from "../operations/start.ts";
import type { Prepared } from "../preflight/prepared.ts";
import { auditedCall } from "./audited-call.ts";
import { callerOf } from "./gate.ts";

type StartRequest = MessageShape<DescMethod["input"]> & { readonly requestId: string; readonly validateOnly?: boolean };

/**
 * Starts an operation for the caller of the call at hand: prepares it and queues it in one transaction. A repeated
 * request gives the operation that the first one made; with `validate_only` nothing is changed, and the answer has no
 * id. Errors: those of `prepare` and startOperation, CAPABILITY_MISSING.
 */
export type Start = (
  request: StartRequest,
  context: HandlerContext,
  prepare: (tx: Database) => Promise<Prepared>,
) => Promise<Operation>;

export function openStart(catalog: Catalog): Start {
  return async (request, context, prepare) => {
    const { principalId } = callerOf(context);
    const { requestId } = request;
    const call = auditedCall(context, request);
    const started = await catalog.transaction(async (tx) => {
      const earlier = requestId === "" ? undefined : await findRepeated(tx, { principalId, requestId, call });
      if (earlier !== undefined) return earlier.id;
      const prepared = await prepare(tx);
      const hostName = await checkCapability(tx, prepared);
      if (request.validateOnly === true) return preview(prepared, hostName);
      const { operationId, backups, ...rest } = prepared;
      const row = await startOperation(tx, {
        ...rest,
        id: operationId,
        backupIds: backups,
        principalId,
        requestId,
        call,
      });
      return row.id;
    });
    return typeof started === "string" ? requireOperation(catalog.db, started) : started;
  };
}

function preview({ spec, hostId }: Prepared, hostName: string): Operation {
  return create(OperationSchema, { kind: kindName(spec.case), host: hostId ?? "", hostName, spec });
}

/**
 * An agent that has connected has said what it can do; of one that has not, nobody knows, and the work waits for it.
 * Gives the name of the host; that of a group's parts may be several.
 */
async function checkCapability(tx: Database, { hostId, spec, parts = [] }: Prepared): Promise<string> {
  const names = new Set<string>();
  for (const part of hostId === undefined ? parts : [{ hostId, spec }]) {
    const host = await findHost(tx, part.hostId);
    if (host === undefined) return fail("HOST_NOT_FOUND", `there is no host ${part.hostId}`);
    const kind = kindOf(part.spec.case);
    if (kind.does === "command" && host.agentVersion !== "" && !host.capabilities.includes(kind.command)) {
      fail(
        "CAPABILITY_MISSING",
        `the agent of ${host.name}, version ${host.agentVersion}, does not know ${kind.command}`,
      );
    }
    names.add(host.name);
  }
  return [...names].join(", ");
}
