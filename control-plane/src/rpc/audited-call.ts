import { type DescMethod, type MessageShape, toJson } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { redactMessage } from "@coppice/proto/kit/log";
import type { AuditedCall } from "../audit/audit.ts";
import { callerOf } from "./gate.ts";

/** What the audit keeps of the call at hand: who, what, and the request without its secrets. */
export function auditedCall(context: HandlerContext, request: MessageShape<DescMethod["input"]>): AuditedCall {
  const { principal, principalId, peerAddress } = callerOf(context);
  const schema = context.method.input;
  return {
    principal,
    tokenId: principalId,
    action: `${context.service.name}/${context.method.name}`,
    request: toJson(schema, redactMessage(schema, request)),
    peerAddress,
  };
}
