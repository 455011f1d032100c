import type { Fence } from "@coppice/proto/gen/coppice/common/v1/fence";

/** Below 0 when `a` is older than `b`, above 0 when it is newer, 0 when they are the same: incarnation, then number. */
export function compareFences(a: Fence, b: Fence): number {
  const older = a.incarnation === b.incarnation ? a.number < b.number : a.incarnation < b.incarnation;
  if (older) return -1;
  return a.incarnation === b.incarnation && a.number === b.number ? 0 : 1;
}
