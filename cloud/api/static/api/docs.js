// Swagger UI over our own schema. With a session of the dashboard, calls carry its CSRF token.
"use strict";
const page = document.getElementById("docs");
SwaggerUIBundle({
  url: page.dataset.schema,
  domNode: page,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
  requestInterceptor: (request) => {
    if (new URL(request.url, location.href).origin === location.origin) {
      request.headers["X-CSRFToken"] = page.dataset.csrf;
    }
    return request;
  },
});
