import { and, eq } from "drizzle-orm";
import type { Database } from "./catalog.ts";
import { request } from "./schema/audit.ts";

/** What a request id was used for. */
export interface RequestRow {
  readonly action: string;
  readonly resourceId: string;
  readonly digest: string | null;
}

/**
 * Takes a request id for a resource that is about to be made. Gives what it was used for before, or undefined when it
 * is new; a second request with it waits until the first one's transaction ends.
 */
export async function claimRequest(
  db: Database,
  claim: { principalId: string; requestId: string; action: string; resourceId: string; digest: string },
): Promise<RequestRow | undefined> {
  const inserted = await db.insert(request).values(claim).onConflictDoNothing().returning({ action: request.action });
  if (inserted.length > 0) return undefined;
  const [row] = await db
    .select({ action: request.action, resourceId: request.resourceId, digest: request.digest })
    .from(request)
    .where(and(eq(request.principalId, claim.principalId), eq(request.requestId, claim.requestId)));
  if (row === undefined) throw new Error("a request id was taken and is not there");
  return row;
}
