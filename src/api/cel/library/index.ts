import { authorizerLibrary, jsonPatchLibrary } from './authorizer.ts';
import { formatLibrary } from './format.ts';
import { joined } from './library.ts';
import { listsLibrary } from './lists.ts';
import { networkLibrary } from './network.ts';
import { quantityLibrary } from './quantity.ts';
import { regexLibrary } from './regex.ts';
import { semverLibrary } from './semver.ts';
import { optionalLibrary, standardLibrary } from './standard.ts';
import { stringsLibrary } from './strings.ts';
import { timeLibrary } from './time.ts';
import { urlLibrary } from './url.ts';

/** Every function that expressions of Kubernetes 1.37 may use. Operators with an order of evaluation of their own are the evaluator's. */
export const functions = joined(
  standardLibrary,
  optionalLibrary,
  timeLibrary,
  stringsLibrary,
  listsLibrary,
  regexLibrary,
  urlLibrary,
  networkLibrary,
  quantityLibrary,
  semverLibrary,
  formatLibrary,
  authorizerLibrary,
  jsonPatchLibrary,
);
