import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { OperationService } from "@coppice/proto/gen/coppice/control/v1/operation";
import { fail } from "@coppice/proto/kit/failure";
import { listOperations } from "../catalog/operations/read.ts";
import { requireCluster } from "../inventory/require.ts";
import { abandonOperation } from "../operations/ending/abandon.ts";
import { cancelOperation } from "../operations/cancel.ts";
import { requireOperation } from "../operations/watch/get.ts";
import { snapshot } from "../operations/watch/snapshot.ts";
import { type WatchParts, waitOperation, watchOperation } from "../operations/watch/watch.ts";
import { watchLog } from "../operations/watch/watch-log.ts";
import { auditedCall } from "./audited-call.ts";
import { claimCreate } from "./claim-create.ts";
import { cutPage, parsePage } from "./page.ts";

/** How long a wait lasts when the request does not say. */
const defaultWaitMs = 30_000;

export function operationService(parts: WatchParts): ServiceImpl<typeof OperationService> {
  const { catalog } = parts;
  return {
    getOperation: ({ operation }) => requireOperation(catalog.db, operation),
    async listOperations(request) {
      const page = parsePage(request.page, 1);
      const records = await listOperations(catalog.db, {
        before: page.after?.[0],
        limit: page.size + 1,
        activeOnly: request.activeOnly,
        clusterId: request.cluster === "" ? undefined : (await requireCluster(catalog.db, request.cluster)).row.id,
        parentId: request.parent || undefined,
      });
      const { items, nextPageToken } = cutPage(records, page, ({ row }) => [row.id]);
      return { operations: items.map(snapshot), nextPageToken };
    },
    async cancelOperation(request, context) {
      await catalog.transaction((tx) => cancelOperation(tx, request.operation, auditedCall(context, request)));
      return requireOperation(catalog.db, request.operation);
    },
    // There is one way to resolve so far; the rules of the request let nothing else in.
    async resolveOperation(request, context) {
      const { operation, requestId } = request;
      await catalog.transaction(async (tx) => {
        const earlier = await claimCreate(tx, context, { request, resourceId: operation });
        if (earlier === undefined) await abandonOperation(tx, operation, auditedCall(context, request));
        else if (earlier !== operation) fail("REQUEST_ID_REUSED", `request id ${requestId} belongs to ${earlier}`);
      });
      return requireOperation(catalog.db, operation);
    },
    waitOperation: ({ operation, cursor, timeout }, { signal }) =>
      waitOperation(parts, {
        id: operation,
        cursor,
        timeoutMs: timeout === undefined ? defaultWaitMs : durationMs(timeout),
        signal,
      }),
    watchOperation: ({ operation, cursor }, { signal }) => watchOperation(parts, { id: operation, cursor, signal }),
    watchLog: ({ operation, cursor, follow }, { signal }) => watchLog(parts, { id: operation, cursor, follow, signal }),
  };
}
