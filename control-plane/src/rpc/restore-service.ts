import type { KeyObject } from "node:crypto";
import type { ServiceImpl } from "@connectrpc/connect";
import type { RestoreRequest, RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import { prepareDecision } from "../preflight/restore/decide.ts";
import { preparePlan, prepareRestore } from "../preflight/restore/prepare.ts";
import type { Start } from "./start.ts";

export function restoreService({
  start,
  masterKey,
}: {
  start: Start;
  masterKey: KeyObject;
}): ServiceImpl<typeof RestoreService> {
  return {
    planRestore: (request, context) =>
      start(request, context, (tx) => preparePlan(tx, restoreOf(request), { now: new Date(), masterKey })),
    createRestore: (request, context) =>
      start(request, context, (tx) => prepareRestore(tx, restoreOf(request), { now: new Date(), masterKey })),
    decideRestore: (request, context) => start(request, context, (tx) => prepareDecision(tx, request, new Date())),
  };
}

function restoreOf({ restore }: { restore?: RestoreRequest | undefined }): RestoreRequest {
  return restore ?? fail("INVALID_FIELD", "restore: a restore is expected");
}
