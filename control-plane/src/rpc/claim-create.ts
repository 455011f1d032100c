import type { HandlerContext } from "@connectrpc/connect";
import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import { claimRequest } from "../catalog/request.ts";
import { callerOf } from "./gate.ts";

/**
 * Makes a create that came twice with one request id happen once: gives the id of what the first one made, undefined
 * for the first one and without a request id. Errors: REQUEST_ID_REUSED by another method.
 */
export async function claimCreate(
  tx: Database,
  context: HandlerContext,
  { requestId, resourceId }: { requestId: string; resourceId: string },
): Promise<string | undefined> {
  if (requestId === "") return undefined;
  const action = `${context.service.name}/${context.method.name}`;
  const { principalId } = callerOf(context);
  const earlier = await claimRequest(tx, { principalId, requestId, action, resourceId });
  if (earlier === undefined) return undefined;
  if (earlier.action !== action) {
    fail("REQUEST_ID_REUSED", `request id ${JSON.stringify(requestId)} was used for ${earlier.action} already`);
  }
  return earlier.resourceId;
}
