/** A list of the API, page by page. */
import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { bound } from "../format/time";
import { get, path, type Query } from "./client";
import type { List } from "./shapes";

const PAGE = 100;
/** How often a list is read again while it stands at its first page. */
const REFRESH_MS = 5_000;

export interface Listed<T> {
  items: T[];
  truncated: boolean;
  /** Groups of which it cannot tell what they handled at the first attempt. */
  notRecorded: string[];
  more: (() => void) | null;
  loading: boolean;
  error: unknown;
  /** When what is shown was read. */
  at: number;
  again: () => void;
}

/** Reads `/v1/NAME`; lengths of time in `from` and `to` become times first. */
export function useList<T>(name: string, filter: Query, enabled = true): Listed<T> {
  const query = useInfiniteQuery({
    queryKey: [name.split("/")[0], name, filter],
    queryFn: ({ pageParam, signal }) => {
      const now = Date.now();
      const bounds = Object.fromEntries(
        ["from", "to"].flatMap((side) => (typeof filter[side] === "string" ? [[side, bound(filter[side], now)]] : [])),
      );
      const query = { limit: PAGE, ...filter, ...bounds, cursor: pageParam ?? undefined };
      return get<List<T>>(path(...name.split("/")), { query, signal });
    },
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next,
    refetchInterval: (state) => ((state.state.data?.pages.length ?? 0) <= 1 ? REFRESH_MS : false),
    placeholderData: keepPreviousData,
    enabled,
  });
  const { data, hasNextPage, isFetchingNextPage, fetchNextPage, refetch } = query;
  return useMemo(
    () => ({
      items: data?.pages.flatMap((page) => page.items) ?? [],
      truncated: data?.pages.some((page) => page.truncated) ?? false,
      notRecorded: data?.pages[0]?.not_recorded?.groups ?? [],
      more: hasNextPage && !isFetchingNextPage ? () => void fetchNextPage() : null,
      loading: query.isPending,
      error: query.error,
      at: query.dataUpdatedAt,
      again: () => void refetch(),
    }),
    [data, hasNextPage, isFetchingNextPage, fetchNextPage, refetch, query.isPending, query.error, query.dataUpdatedAt],
  );
}
