import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { PlanRestoreSpecSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { RestoreRequest, RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import { prepareRestore, requirePlannable } from "../preflight/restore/prepare.ts";
import type { Start } from "./start.ts";

export function restoreService({ start }: { start: Start }): ServiceImpl<typeof RestoreService> {
  const prepare = (tx: Database, request: RestoreRequest | undefined) =>
    prepareRestore(tx, request ?? fail("INVALID_FIELD", "restore: a restore is expected"), new Date());
  return {
    planRestore: (request, context) =>
      start(request, context, async (tx) => {
        const { exclusiveKey: _, ...prepared } = await prepare(tx, request.restore);
        const restore = requirePlannable({ ...prepared });
        return { ...prepared, spec: { case: "planRestore", value: create(PlanRestoreSpecSchema, { restore }) } };
      }),
    createRestore: (request, context) => start(request, context, (tx) => prepare(tx, request.restore)),
  };
}
