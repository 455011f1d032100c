/** One page of a list as every list method answers it. */
interface Page {
  readonly nextPageToken: string;
}

/** Items of a list from page to page, at most `limit`, and whether there would be more. */
export async function collectPages<Answer extends Page, Item>(
  ask: (page: { pageSize: number; pageToken: string }) => Promise<Answer>,
  itemsOf: (answer: Answer) => readonly Item[],
  limit = Number.POSITIVE_INFINITY,
): Promise<{ items: Item[]; hasMore: boolean }> {
  const items: Item[] = [];
  let pageToken = "";
  do {
    const answer = await ask({ pageSize: Math.min(limit - items.length, 500), pageToken });
    items.push(...itemsOf(answer));
    pageToken = answer.nextPageToken;
  } while (pageToken !== "" && items.length < limit);
  return { items, hasMore: pageToken !== "" };
}
