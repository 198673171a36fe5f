// Made by scripts/generate-aws-schemas.ts.
export { AssumeRole$, GetAccessKeyInfo$, GetCallerIdentity$, GetSessionToken$ } from '@aws-sdk/client-sts';
export const others = 'AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot DecodeAuthorizationMessage GetDelegatedAccessToken GetFederationToken GetScopedCredentials GetWebIdentityToken';
