// In a file of its own: the pages of this server run no script that stands in the page.
SwaggerUIBundle({
  url: "/api-docs/openapi.json",
  dom_id: "#document",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
