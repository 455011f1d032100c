import type { KeyObject } from "node:crypto";
import type { ServiceImpl } from "@connectrpc/connect";
import type { RestoreRequest, RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import { preparePlan, prepareRestore } from "../preflight/restore/prepare.ts";
import type { Start } from "./start.ts";

export function restoreService({
  start,
  masterKey,
}: {
  start: Start;
  masterKey: KeyObject;
}): ServiceImpl<typeof RestoreService> {
  const prepare = (tx: Database, request: RestoreRequest | undefined) =>
    prepareRestore(tx, request ?? fail("INVALID_FIELD", "restore: a restore is expected"), {
      now: new Date(),
      masterKey,
    });
  return {
    planRestore: (request, context) =>
      start(request, context, async (tx) => preparePlan(await prepare(tx, request.restore))),
    createRestore: (request, context) => start(request, context, (tx) => prepare(tx, request.restore)),
  };
}
