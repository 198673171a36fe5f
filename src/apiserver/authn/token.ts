import type { UserInfo } from './user.ts';

export interface TokenIdentity {
  user: UserInfo;
  /** Those asked for that the token is meant for; left out where the authenticator knows no audiences. */
  audiences?: string[];
  /** When the token ends, in milliseconds: nobody may remember the answer longer. */
  expires?: number;
}

/** Knows who has a bearer token. */
export interface TokenAuthenticator {
  /** For logs. */
  name: string;
  /** Undefined where the token is none of its own; throws where it is, and is bad. */
  authenticate(token: string, audiences: string[]): Promise<TokenIdentity | undefined>;
  close?(): void;
}
