import { create } from "@bufbuild/protobuf";
import { type CheckItem, CheckItemSchema, CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { type Failure, isFailure } from "@coppice/proto/kit/failure";

/** One thing that was looked at; with a failure the restore is refused. */
export interface Item {
  readonly name: string;
  readonly message: string;
  readonly failure?: Failure;
  readonly warning?: string;
}

/** What was seen of one thing. */
export type Sight = Omit<Item, "name">;

/** Looks, and turns a failure into an item; anything else is no answer and is thrown. */
export async function look(name: string, signal: AbortSignal, see: () => Sight | Promise<Sight>): Promise<Item> {
  try {
    return { name, ...(await see()) };
  } catch (error) {
    signal.throwIfAborted();
    if (!isFailure(error)) throw error;
    return { name, message: error.message, failure: error };
  }
}

/** Names for a message. */
export function quoteNames(names: readonly string[]): string {
  return names.map((name) => JSON.stringify(name)).join(", ");
}

/** The item as an answer tells it. */
export function toCheckItem({ name, message, failure, warning }: Item): CheckItem {
  return create(CheckItemSchema, {
    name,
    message: warning ? `${message}: ${warning}` : message,
    status: failure ? CheckStatus.FAILED : warning ? CheckStatus.WARNING : CheckStatus.OK,
    fix: failure?.hint ?? "",
  });
}
