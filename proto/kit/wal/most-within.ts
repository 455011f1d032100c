/** The greatest value from a position to another one, both included; undefined when there is none. */
export type MostWithin = (from: bigint, to: bigint) => bigint | undefined;

/**
 * Prepares values for many questions after the greatest of a range: each costs about as many steps as the number of values
 * has binary digits. Takes them in order of position; values are of 64 bits with a sign.
 */
export function mostWithin(values: readonly { readonly at: bigint; readonly value: bigint }[]): MostWithin {
  const count = values.length;
  // The second half has the values; each before them the greater one of the two that it stands for.
  const most = new BigInt64Array(2 * count);
  for (const [index, { value }] of values.entries()) most[count + index] = value;
  for (let index = count - 1; index > 0; index--) most[index] = greater(most[2 * index], most[2 * index + 1]) ?? 0n;
  return (from, to) => {
    let found: bigint | undefined;
    let start = count + countBelow(count, (index) => (values[index]?.at ?? from) < from);
    let end = count + countBelow(count, (index) => (values[index]?.at ?? to) <= to);
    for (; start < end; start >>= 1, end >>= 1) {
      if (start % 2 === 1) found = greater(found, most[start++]);
      if (end % 2 === 1) found = greater(found, most[--end]);
    }
    return found;
  };
}

/** How many of so many, in order, are below something; those come first. */
export function countBelow(count: number, isBelow: (index: number) => boolean): number {
  let least = 0;
  let end = count;
  while (least < end) {
    const middle = (least + end) >> 1;
    if (isBelow(middle)) least = middle + 1;
    else end = middle;
  }
  return least;
}

function greater(one: bigint | undefined, other: bigint | undefined): bigint | undefined {
  return one === undefined || (other !== undefined && other > one) ? other : one;
}
