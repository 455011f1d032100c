import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import { failureToConnectError } from "@coppice/proto/kit/connect-failure";
import { fail, toFailure } from "@coppice/proto/kit/failure";
import type { Logger } from "pino";
import { authenticate } from "../access/authenticate.ts";
import type { Caller } from "../access/caller.ts";
import { includesRole, methodRole } from "../access/method-roles.ts";
import type { Database } from "../catalog/catalog.ts";
import { catalogFailure } from "../catalog/driver-error.ts";
import { logFailure } from "./log-failure.ts";
import { peerKey } from "./peer.ts";

const callerKey = createContextKey<Caller | undefined>(undefined, { description: "caller" });

/**
 * Lets a call in before its body is read: who is it, and does the role allow the method? Methods that authenticate
 * themselves, and those of health, pass.
 */
export function openGate(options: { db: Database; log: Logger }): (context: HandlerContext) => Promise<void> {
  const { db, log } = options;
  return async (context) => {
    const needed = methodRole(context.method);
    if (needed === undefined || needed === "SELF") return;
    try {
      const caller = await authenticate(db, {
        authorization: context.requestHeader.get("authorization"),
        peerAddress: context.values.get(peerKey).address,
        now: new Date(),
      });
      if (!includesRole(caller.role, needed)) {
        fail(
          "PERMISSION_DENIED",
          `${context.service.name}/${context.method.name} needs the role ${needed.toLowerCase()}, ` +
            `token ${caller.principal} has ${caller.role.toLowerCase()}`,
        );
      }
      context.values.set(callerKey, caller);
    } catch (error) {
      const failure = catalogFailure(error) ?? toFailure(error);
      logFailure(log, `${context.service.name}/${context.method.name}`, failure);
      throw failureToConnectError(failure);
    }
  };
}

/** Who makes the call at hand. */
export function callerOf(context: HandlerContext): Caller {
  return context.values.get(callerKey) ?? fail("UNAUTHENTICATED", "the call has no caller");
}
