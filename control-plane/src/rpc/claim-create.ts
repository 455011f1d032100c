import { createHash } from "node:crypto";
import type { DescMethod, MessageShape } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import { claimRequest } from "../catalog/request.ts";
import { auditedCall } from "./audited-call.ts";
import { callerOf } from "./gate.ts";

/**
 * Makes a change that came twice with one request id happen once: gives the id of what the first one made or changed,
 * undefined for the first one and without a request id. Errors: REQUEST_ID_REUSED by another method or another request;
 * secrets in it are not compared.
 */
export async function claimCreate(
  tx: Database,
  context: HandlerContext,
  {
    request,
    resourceId,
  }: { request: MessageShape<DescMethod["input"]> & { readonly requestId: string }; resourceId: string },
): Promise<string | undefined> {
  const { requestId } = request;
  if (requestId === "") return undefined;
  const { action, request: shown } = auditedCall(context, request);
  const { principalId } = callerOf(context);
  const digest = createHash("sha256").update(JSON.stringify(shown)).digest("hex");
  const earlier = await claimRequest(tx, { principalId, requestId, action, resourceId, digest });
  if (earlier === undefined) return undefined;
  if (earlier.action !== action || (earlier.digest ?? digest) !== digest) {
    const used = earlier.action === action ? "another request" : earlier.action;
    fail("REQUEST_ID_REUSED", `request id ${JSON.stringify(requestId)} was used for ${used} already`);
  }
  return earlier.resourceId;
}
