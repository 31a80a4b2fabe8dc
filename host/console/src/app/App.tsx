/** The console: language, session, live changes, pages. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { LiveProvider } from "../api/live";
import { Problem } from "../api/problem";
import { SessionProvider } from "../api/session";
import { LanguageProvider } from "../i18n/context";
import { SignInPage } from "../pages/sign-in/SignInPage";
import { Loading } from "../ui/Notice";
import { NoHost } from "./NoHost";
import { router } from "./router";

const cache = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 2_000,
      // A refusal stays one however often it is asked for.
      retry: (failures, error) => error instanceof Problem && error.mayPass && failures < 2,
    },
  },
});

export function App() {
  return (
    <LanguageProvider>
      <QueryClientProvider client={cache}>
        <SessionProvider
          stranger={<SignInPage />}
          unknown={(error, again) => (error ? <NoHost error={error} again={again} /> : <Loading />)}
        >
          <LiveProvider>
            <RouterProvider router={router} />
          </LiveProvider>
        </SessionProvider>
      </QueryClientProvider>
    </LanguageProvider>
  );
}
