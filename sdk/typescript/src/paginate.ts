/** An operation that answers with pages: listNumbers, searchNumbers. They are generic functions, which only any describes. */
export type ListOperation = (options: any) => Promise<any>;

/** A row of an operation's pages. */
export type RowOf<F extends ListOperation> =
  NonNullable<Awaited<ReturnType<F>>> extends { data: ReadonlyArray<infer Row> } ? Row : never;

interface PageOf<Row> {
  data: Row[];
  next_cursor?: string;
}

/**
 * Gives the rows of a list one by one, and fetches pages as they are needed:
 *
 *     for await (const number of paginate(listNumbers, { client, query: { limit: 200 } })) { … }
 *     for await (const call of paginate(searchCalls, { client, body: { filter: { status: 'completed' } } })) { … }
 *
 * Rows made or removed meanwhile may be seen or not; no other is left out or given twice.
 */
export async function* paginate<F extends ListOperation>(list: F, options: Parameters<F>[0]): AsyncGenerator<RowOf<F>, void, void> {
  for await (const page of pages(list, options)) {
    yield* page;
  }
}

/** As {@link paginate}, page by page. */
export async function* pages<F extends ListOperation>(list: F, options: Parameters<F>[0]): AsyncGenerator<RowOf<F>[], void, void> {
  const given = (options ?? {}) as { query?: object; body?: object };
  // A search has everything in its body.
  const part = given.body === undefined ? 'query' : 'body';
  let cursor: string | undefined;
  do {
    const asked = cursor === undefined ? given : { ...given, [part]: { ...given[part], cursor } };
    const page: PageOf<RowOf<F>> = await list(asked);
    yield page.data;
    cursor = page.next_cursor;
  } while (cursor);
}
