import { linkSignals } from "@coppice/proto/kit/race";

/** Does several works at once. When one fails the others are stopped and waited for; fails with the first failure. */
export async function allOrNone(
  signal: AbortSignal,
  works: readonly ((stop: AbortSignal) => Promise<void>)[],
): Promise<void> {
  using linked = linkSignals(signal);
  let first: { readonly cause: unknown } | undefined;
  await Promise.all(
    works.map(async (work) => {
      try {
        await work(linked.signal);
      } catch (cause) {
        first ??= { cause };
        linked.abort(cause);
      }
    }),
  );
  if (first) throw first.cause;
}
