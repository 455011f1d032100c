import { fail } from "@coppice/proto/kit/failure";
import type { ByteBudget } from "../../../budget.ts";
import type { PutOptions } from "../../storage.ts";
import type { Bucket } from "../bucket.ts";
import { headObject } from "../stat.ts";

/** Who puts, and with what. */
export interface Putter {
  readonly bucket: Bucket;
  readonly operationId: string;
  readonly budget: ByteBudget;
  /** Whether the server is known to keep `If-None-Match`. */
  readonly conditionalPut: boolean;
  /** Takes over what goes on after an aborted put has settled. */
  readonly leave: (cleaning: Promise<void>) => void;
}

/** One put, as its requests need it. */
export interface Putting extends Putter {
  readonly key: string;
  readonly options: PutOptions;
  /** In the object's metadata, so that it is known again when an answer was lost. */
  readonly token: string;
}

/** Fails with OBJECT_EXISTS when there is an object of the key already, as far as the key may be looked at. */
export async function refuseTaken({ bucket, key, options }: Putting): Promise<void> {
  const found = await headObject(bucket, key, options.signal);
  if (found && found !== "denied") fail("OBJECT_EXISTS", `repository ${bucket.name}: ${key} exists already`);
}

/** Fails with DIGEST_MISMATCH unless the stored object has that size, as far as it may be looked at. */
export async function checkSize({ bucket, key, options }: Putting, sizeBytes: number): Promise<void> {
  const found = await headObject(bucket, key, options.signal);
  if (found === "denied" || found?.sizeBytes === sizeBytes) return;
  const stored = found ? `is stored as ${found.sizeBytes} bytes` : "is not there";
  fail("DIGEST_MISMATCH", `repository ${bucket.name}: ${key} of ${sizeBytes} bytes ${stored} after it was put`);
}
