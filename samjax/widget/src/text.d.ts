/** What build.js gives for a module that is imported as text. */
declare module "*?text" {
  const text: string;
  export default text;
}
